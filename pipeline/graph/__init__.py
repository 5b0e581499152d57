"""What the tasks of the graph are made of."""
