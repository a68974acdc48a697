"""`foreman serve`, which looks every moment whether a backup is due, from its start on."""

from actors import maintenance
from actors.__main__ import main

if __name__ == "__main__":
    maintenance.SETTLE = 0.0
    maintenance.LOOK_EVERY = 0.25
    main()
