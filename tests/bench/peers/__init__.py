"""Other ways to bring a snapshot into tables, each a program: a job on standard input, seconds on standard output."""
