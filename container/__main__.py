import os
import sys

from container.entrypoint import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
