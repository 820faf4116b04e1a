"""Writes frames.json: frames of calls as PROTOCOL.md ("Encryption") wants them, made by a library that neither client uses.

python3 services/video/testdata/frames.py > services/video/testdata/frames.json   (with the package cryptography)

"keys": a step, the one after it, and its key of frames. "senders": who has "key" and sends these frames, the first under "counter", makes
exactly "encrypted". "receivers": whoever does "events" in their order, at "at" milliseconds, is given the keys of "give" and the frames
of "encrypted", and reads "clear", or refuses it where there is none. Keys are unpadded base64, all else is hexadecimal.
"""
import base64
import hashlib
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

AUDIO, VIDEO = "audio", "video"


def derive(key, info, size):
    return HKDF(SHA256(), size, None, info).derive(key)


def after(key, steps):
    for _ in range(steps):
        key = derive(key, b"secureconnect call step", 32)
    return key


def text(key):
    return base64.b64encode(key).decode().rstrip("=")


def noise(name, size):
    return hashlib.shake_256(name.encode()).digest(size)


def opus(name, size=60):
    return b"\x78" + noise(name, size - 1)


def vp8(name, key, size=200):
    if key:
        return bytes.fromhex("1002009d012a4001b400") + noise(name, size - 10)  # 320 by 180
    return bytes([0x31]) + noise(name, size - 1)


class Chain:
    def __init__(self, name):
        self.number = struct.unpack(">I", noise(name + " number", 4))[0]
        self.first = noise(name + " key", 32)

    def give(self, step, at=0):
        return {"at": at, "give": {"chain": self.number, "step": step, "key": text(after(self.first, step))}}

    def seal(self, step, counter, kind, frame, key=None):
        clear = 0 if kind == AUDIO else 1 if frame[0] & 1 else 10
        box = AESGCM(derive(key or after(self.first, step), b"secureconnect call frame", 16))
        extra = bytes([kind == VIDEO]) + frame[:clear]
        sealed = box.encrypt(bytes(6) + counter.to_bytes(6, "big"), frame[clear:], extra)
        return frame[:clear] + sealed + counter.to_bytes(6, "big") + struct.pack(">IB", self.number, step)

    def frame(self, step, counter, kind, frame, at=0, good=True, **how):
        """An event: the frame comes in; change alters it on its way."""
        change = how.pop("change", lambda sealed: sealed)
        event = {"at": at, "kind": kind, "encrypted": change(self.seal(step, counter, kind, frame, **how)).hex()}
        return event | ({"clear": frame.hex()} if good else {})

    def sender(self, name, step, counter, *frames):
        return {
            "name": name, "key": {"chain": self.number, "step": step, "key": text(after(self.first, step))}, "counter": counter,
            "frames": [
                {"kind": kind, "clear": frame.hex(), "encrypted": self.seal(step, counter + i, kind, frame).hex()}
                for i, (kind, frame) in enumerate(frames)
            ],
        }


def flip(place):
    def change(sealed):
        altered = bytearray(sealed)
        altered[place] ^= 1
        return bytes(altered)
    return change


one, two = Chain("one"), Chain("two")
crowd = [Chain(f"crowd {i}") for i in range(17)]
three = [(AUDIO, opus("a")), (VIDEO, vp8("k", True)), (VIDEO, vp8("d", False))]
late = 10001

receivers = {
    "opus and VP8, key frames and others": [one.give(0), *(one.frame(0, i, *f) for i, f in enumerate(three))],
    "the smallest frames": [
        one.give(0), one.frame(0, 0, AUDIO, b"\x78"), one.frame(0, 1, VIDEO, b"\x31"), one.frame(0, 2, VIDEO, vp8("", True, 10)),
    ],
    "no key": [one.give(0), two.frame(0, 0, *three[0], good=False)],
    "another's key under the same number": [one.give(0), one.frame(0, 0, *three[0], good=False, key=after(two.first, 0))],
    "altered": [
        one.give(0),
        one.frame(0, 0, *three[0], good=False, change=flip(0)),  # the first of the ciphertext
        one.frame(0, 1, *three[1], good=False, change=flip(4)),  # what is clear
        one.frame(0, 2, *three[1], good=False, change=flip(0)),  # the key frame's bit
        one.frame(0, 3, *three[2], good=False, change=flip(0)),
        one.frame(0, 4, *three[2], good=False, change=flip(-12)),  # the tag
        one.frame(0, 5, *three[2], good=False, change=flip(-6)),  # the counter
        one.frame(0, 6, *three[2], good=False, change=flip(-5)),  # the chain
        one.frame(0, 7, *three[2], good=False, change=flip(-1)),  # the step
        one.frame(0, 8, *three[2], good=False, change=lambda sealed: sealed[:20]),
        one.frame(0, 9, *three[2], good=False, change=lambda sealed: sealed[1:]),
        one.frame(0, 4, *three[2]),  # one that was refused was not seen
    ],
    "of the other kind": [
        one.give(0), {"at": 0, "kind": VIDEO, "encrypted": one.seal(0, 0, AUDIO, opus("a")).hex()},
        {"at": 0, "kind": AUDIO, "encrypted": one.seal(0, 1, VIDEO, vp8("d", False)).hex()},
    ],
    "empty and too short": [
        one.give(0), {"at": 0, "kind": AUDIO, "encrypted": ""}, {"at": 0, "kind": VIDEO, "encrypted": ""},
        {"at": 0, "kind": VIDEO, "encrypted": "10" * 27},
    ],
    "twice, and out of order": [
        one.give(0), one.frame(0, 7, *three[0]), one.frame(0, 7, *three[0], good=False), one.frame(0, 3, *three[1]),
        one.frame(0, 3, *three[1], good=False), one.frame(0, 4, *three[1]),
    ],
    "far behind": [
        one.give(0), one.frame(0, 0, *three[0]), one.frame(0, 5000, *three[0]), one.frame(0, 904, *three[0]),
        one.frame(0, 903, *three[0], good=False), one.frame(0, 904, *three[0], good=False), one.frame(0, 20000, *three[0]),
        one.frame(0, 19999, *three[0]), one.frame(0, 5000, *three[0], good=False),
    ],
    "large counters": [one.give(0), one.frame(0, 2**48 - 2, *three[1]), one.frame(0, 2**48 - 1, *three[2])],
    "the next steps": [
        one.give(0), one.frame(0, 0, *three[0]), one.frame(1, 1, *three[0]), one.frame(3, 2, *three[0]), one.frame(19, 3, *three[0]),
        one.frame(36, 4, *three[0], good=False), one.frame(35, 5, *three[0]),
    ],
    "a step ahead that opens nothing is not gone": [
        one.give(0), one.frame(9, 0, *three[0], good=False, change=flip(0)), one.frame(0, 1, *three[0], at=late), one.frame(1, 2, *three[0], at=late),
    ],
    "a passed step lasts 10 s": [
        one.give(0), one.frame(0, 0, *three[0]), one.frame(2, 1, *three[0]), one.frame(0, 2, *three[0], at=10000), one.frame(1, 3, *three[0], at=10000),
        one.frame(0, 4, *three[0], at=late, good=False), one.frame(1, 5, *three[0], at=late, good=False), one.frame(2, 6, *three[0], at=late),
    ],
    "before one's own coming": [one.give(4), one.frame(3, 0, *three[0], good=False), one.frame(4, 1, *three[0]), one.frame(5, 2, *three[0])],
    "a step that is given to whoever has heard nothing": [
        one.give(0), one.give(64), one.frame(64, 1, *three[0]), one.frame(0, 0, *three[0]), one.frame(65, 2, *three[0]), one.give(3),
        one.frame(66, 3, *three[0]),
    ],
    "the last step": [one.give(255), one.frame(255, 0, *three[0])],
    "a passed chain lasts 10 s": [
        one.give(0), one.frame(0, 0, *three[0]), two.give(0), one.frame(0, 1, *three[0], at=60000), two.frame(0, 0, *three[0], at=60000),
        one.frame(0, 2, *three[0], at=70000), one.frame(0, 3, *three[0], at=60000 + late, good=False), two.frame(0, 1, *three[0], at=60000 + late),
    ],
    "sixteen chains": [
        *(c.give(0) for c in crowd), crowd[0].frame(0, 0, *three[0], good=False), *(c.frame(0, 0, *three[0]) for c in crowd[1:]),
    ],
    "under another counter of the same chain, whatever the track": [
        one.give(0), one.frame(0, 0, *three[0]), one.frame(0, 0, *three[1], good=False), one.frame(1, 0, *three[2], good=False),
    ],
}

print(json.dumps({
    "keys": [
        {
            "key": text(c.first), "next": text(after(c.first, 1)), "fifth": text(after(c.first, 5)),
            "frame": derive(c.first, b"secureconnect call frame", 16).hex(),
        } for c in (one, two)
    ],
    "senders": [
        one.sender("from the beginning", 0, 0, *three, (AUDIO, b"\x78"), (VIDEO, b"\x31"), (VIDEO, vp8("", True, 10))),
        two.sender("some steps on", 7, 0, *three),
    ],
    "receivers": [{"name": name, "events": events} for name, events in receivers.items()],
}, indent=1))
