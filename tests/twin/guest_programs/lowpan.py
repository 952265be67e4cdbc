"""Runs in the guest: gives its kernel's own 802.15.4 stack an air that ends on a serial line.

    lowpan.py DEVICE PAN-ID PEER-EUI-64 UDP-PORT

Radio 0 of mac802154_hwsim carries a 6LoWPAN interface of the kernel; radio 1 hears and sends everything beside it. A
frame is a line of hexadecimal digits on DEVICE, with its check sequence from the guest, without it towards the guest.
The first line says `ready` and the interface's EUI-64. A UDP server on the interface sends back what it gets.
"""

import errno
import os
import select
import socket
import struct
import subprocess
import sys
import time
import tty
from pathlib import Path

ETH_P_ALL = 3
NLM_F_REQUEST_ACK, NLM_F_CREATE = 0x05, 0x400
RTM_NEWLINK, RTM_NEWNEIGH = 16, 28
NETLINK_GENERIC = 16
GENL_CTRL, CTRL_GET_FAMILY = 16, 3
CTRL_FAMILY_ID, CTRL_FAMILY_NAME = 1, 2
# include/net/nl802154.h
NEW_INTERFACE, DEL_INTERFACE, SET_PAN_ID = 7, 8, 10
WPAN_PHY, IFINDEX, IFNAME, IFTYPE, PAN_ID = 1, 3, 4, 5, 9
IFTYPE_MONITOR = 1


def attribute(kind, value):
    size = 4 + len(value)
    return struct.pack("<HH", size, kind) + value + bytes(-size % 4)


def u32(number):
    return struct.pack("<I", number)


class Netlink:
    def __init__(self, protocol):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.socket.bind((0, 0))

    def ask(self, kind, body, flags=0):
        message = struct.pack("<IHHII", 16 + len(body), kind, NLM_F_REQUEST_ACK | flags, 1, 0) + body
        self.socket.send(message)
        answer = b""
        while True:
            data = self.socket.recv(65536)
            while data:
                size, got, _, _, _ = struct.unpack_from("<IHHII", data)
                if got == 2:
                    error = -struct.unpack_from("<i", data, 16)[0]
                    if error:
                        raise OSError(error, os.strerror(error))
                    return answer
                answer, data = data[16:size], data[(size + 3) & ~3 :]


class Wpan(Netlink):
    def __init__(self):
        super().__init__(NETLINK_GENERIC)
        answer = self.ask(GENL_CTRL, bytes((CTRL_GET_FAMILY, 1, 0, 0)) + attribute(CTRL_FAMILY_NAME, b"nl802154\0"))
        at = 4
        while at < len(answer):
            size, kind = struct.unpack_from("<HH", answer, at)
            if kind == CTRL_FAMILY_ID:
                self.family = struct.unpack_from("<H", answer, at + 4)[0]
            at += (size + 3) & ~3

    def do(self, command, *attributes):
        self.ask(self.family, bytes((command, 1, 0, 0)) + b"".join(attributes))


def up(name):
    subprocess.run(["/bin/ip", "link", "set", name, "up"], check=True)


def make_interfaces(pan_id, peer):
    wpan, route = Wpan(), Netlink(socket.NETLINK_ROUTE)
    wpan.do(DEL_INTERFACE, attribute(IFINDEX, u32(socket.if_nametoindex("wpan1"))))
    phy = int(Path("/sys/class/ieee802154/phy1/index").read_text())
    wpan.do(
        NEW_INTERFACE,
        attribute(WPAN_PHY, u32(phy)),
        attribute(IFNAME, b"mon0\0"),
        attribute(IFTYPE, u32(IFTYPE_MONITOR)),
    )
    index = socket.if_nametoindex("wpan0")
    wpan.do(SET_PAN_ID, attribute(IFINDEX, u32(index)), attribute(PAN_ID, struct.pack("<H", pan_id)))
    up("mon0")
    up("wpan0")
    kind = attribute(18, attribute(1, b"lowpan"))
    route.ask(
        RTM_NEWLINK,
        struct.pack("<BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"lowpan0\0") + attribute(5, u32(index)) + kind,
        NLM_F_CREATE,
    )
    up("lowpan0")
    lowpan = socket.if_nametoindex("lowpan0")
    address = b"\xfe\x80" + bytes(6) + bytes((peer[0] ^ 2,)) + peer[1:]
    neighbour = struct.pack("<BxxxiHBB", socket.AF_INET6, lowpan, 0x80, 0, 0)
    route.ask(RTM_NEWNEIGH, neighbour + attribute(1, address) + attribute(2, peer), NLM_F_CREATE)


def udp_server(port):
    """Bound when the interface's address has been found to be nobody else's."""
    own = bytes.fromhex(Path("/sys/class/net/wpan0/address").read_text().strip().replace(":", ""))
    text = socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + bytes((own[0] ^ 2,)) + own[1:])
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    while True:
        try:
            server.bind((text, port, 0, socket.if_nametoindex("lowpan0")))
            return server, own
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            time.sleep(0.1)


def main():
    device, pan_id, peer, port = sys.argv[1], int(sys.argv[2], 16), bytes.fromhex(sys.argv[3]), int(sys.argv[4])
    line = os.open(device, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    make_interfaces(pan_id, peer)
    air = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    air.bind(("mon0", ETH_P_ALL))
    server, own = udp_server(port)
    os.write(line, b"ready %s\n" % own.hex().encode())
    rest = b""
    while True:
        ready, _, _ = select.select([line, air, server], [], [])
        if air in ready:
            frame, (_, _, direction, _, _) = air.recvfrom(2048)
            if direction != 4:  # what this program has sent
                os.write(line, frame.hex().encode() + b"\n")
        if line in ready:
            *frames, rest = (rest + os.read(line, 4096)).split(b"\n")
            for frame in frames:
                air.send(bytes.fromhex(frame.decode()))
        if server in ready:
            data, sender = server.recvfrom(2048)
            server.sendto(data, sender)


main()
