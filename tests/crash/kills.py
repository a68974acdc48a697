"""How many kills: `KILLS` in the environment, shared by whole daemons and the store alone.

A kill of a daemon takes half a second, one of the store a twentieth of that.
"""

import os

KILLS = int(os.environ.get("KILLS", "200"))
OF_DAEMONS = max(25, KILLS // 8)  # each point once, and a few at random
OF_STORES = max(25, KILLS - OF_DAEMONS)
PER_DIRECTORY = 25  # kills until the next one starts afresh
