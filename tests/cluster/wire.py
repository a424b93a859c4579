"""A slow wire: carries Ethernet frames between two interfaces, late.

    wire.py IF_A IF_B DELAY_MS [JITTER_MS] [LOSS_PCT]

Stands in for `tc qdisc ... netem` on kernels built without sch_netem.  Each
direction gets the delay, so a round trip grows by twice DELAY_MS.  Frames go
with their virtio header (PACKET_VNET_HDR), so checksum offload and GSO stay
right.  Order is kept within a direction.  Needs CAP_NET_RAW.
"""

import collections
import contextlib
import random
import select
import socket
import sys
import time

SOL_PACKET, ADD_MEMBERSHIP, MR_PROMISC = 263, 1, 1
VNET_HDR, IGNORE_OUTGOING = 15, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


def tap(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(SOL_PACKET, VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
    s.bind((name, 3))  # ETH_P_ALL
    mreq = socket.if_nametoindex(name).to_bytes(4, sys.byteorder)
    mreq += MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    s.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, mreq)
    s.setblocking(False)
    return s


def main(if_a, if_b, delay_ms, jitter_ms=0.0, loss_pct=0.0):
    a, b = tap(if_a), tap(if_b)
    print("carrying", flush=True)
    lanes = {a: (b, collections.deque()), b: (a, collections.deque())}
    delay, jitter, loss = delay_ms / 1e3, jitter_ms / 1e3, loss_pct / 100
    while True:
        heads = [q[0][0] for _, q in lanes.values() if q]
        wait = max(0.0, min(heads) - time.monotonic()) if heads else None
        for src in select.select([a, b], [], [], wait)[0]:
            q = lanes[src][1]
            for _ in range(64):
                try:
                    frame = src.recv(1 << 17)
                except BlockingIOError:
                    break
                if loss and random.random() < loss:
                    continue
                due = time.monotonic() + delay + random.uniform(-jitter, jitter)
                q.append((max(due, q[-1][0] if q else 0.0), frame))
        for dst, q in lanes.values():
            while q and q[0][0] <= time.monotonic():
                with contextlib.suppress(OSError):  # link down, frame too big: lost
                    dst.send(q.popleft()[1])


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(float, sys.argv[3:]))
