"""`python -m sync.sandbox`"""

from sync.sandbox.command import main

main()
