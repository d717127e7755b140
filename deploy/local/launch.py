"""launch.py PIDFILE USER COMMAND…: write the pid that the command will have, become USER (unless
`-`), become the command.
"""

import os
import pwd
import sys
from pathlib import Path


def main(pid_file: str, user: str, *command: str) -> None:
    Path(pid_file).write_text(f"{os.getpid()}\n", encoding="ascii")
    if user != "-":
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.execvp(command[0], command)  # noqa: S606 - the point of this file


if __name__ == "__main__":
    main(*sys.argv[1:])
