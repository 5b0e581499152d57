"""Stand-ins for what the network does to us."""
