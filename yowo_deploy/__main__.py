"""`python -m yowo_deploy` is the command line."""

from yowo_deploy.cli import main

main()
