"""One command makes the checkpoint: `python -m training --out FOLDER [--minutes N] [--resume]`."""

from training.command import main

if __name__ == "__main__":
    main()
