"""Starts a command as a user: launch.py PIDFILE USER COMMAND…

It writes its own pid to PIDFILE, switches to USER unless that is `-`, and executes the command
under the same pid.
"""

import os
import pwd
import sys
from pathlib import Path


def main(pid_file: str, user: str, *command: str) -> None:
    # A reader never sees an empty file, also when the program starts again
    new = Path(f"{pid_file}.new")
    new.write_text(f"{os.getpid()}\n", encoding="ascii")
    new.replace(pid_file)
    if user != "-":
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.execvp(command[0], command)  # noqa: S606 - the point of this file


if __name__ == "__main__":
    main(*sys.argv[1:])
