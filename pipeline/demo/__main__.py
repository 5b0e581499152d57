"""``python -m pipeline.demo``."""

from pipeline.demo.bucket import main

main()
