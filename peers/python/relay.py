"""Is the standard input and output of a program that runs elsewhere: both go to a TCP address, byte for byte.

    python relay.py HOST PORT
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def copy_input(connection: socket.socket) -> None:
    while piece := os.read(0, 1 << 16):
        connection.sendall(piece)
    connection.shutdown(socket.SHUT_WR)


def main() -> None:
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
        threading.Thread(target=copy_input, args=[connection], daemon=True).start()
        while piece := connection.recv(1 << 16):
            while piece:
                piece = piece[os.write(1, piece) :]


if __name__ == "__main__":
    main()
