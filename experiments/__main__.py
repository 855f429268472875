"""`python -m experiments` is the `synthpoll` command."""

from experiments.cli import main

main()
