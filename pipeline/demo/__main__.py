"""``python -m pipeline.demo``."""

from pipeline.demo.bucket import main

if __name__ == "__main__":
    main()
