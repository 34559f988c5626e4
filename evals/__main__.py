"""`python -m evals`: the same as `crashcart eval`."""

from evals.command import main

main()
