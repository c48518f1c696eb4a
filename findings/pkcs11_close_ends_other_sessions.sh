#!/usr/bin/env bash
# python-pkcs11: closing the session that logged in takes the private keys away from every other session of the process.
#
# Packages: python-pkcs11 0.10.1, asn1crypto 1.5.1, and softhsm2 2.6.1 of Debian 12 (apt-get install softhsm2).
# Behaviour: a process is logged in to a token as a whole, so a second open(user_pin=...) raises UserAlreadyLoggedIn, and
#   the second session is opened without a PIN. Session.close() of the first one also calls C_Logout. The second session
#   stays open, its key raises ObjectHandleInvalid, and a search there finds no private key, without an error. In the
#   other order nothing happens: closing the session that was opened without a PIN leaves the first one as it was.
# Why it matters: two parts of a program that each use `with token.open(...)` work alone. Together, the end of one stops
#   the signatures of the other, and "no such key" points to the wrong fault. One session for each token avoids it.
# Seen: second open with the PIN: UserAlreadyLoggedIn. Private keys found in the second session: 1, after close of the
#   first: 0. Its key then: ObjectHandleInvalid. The other order: 1 and a signature of 64 bytes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check python-pkcs11==0.10.1 asn1crypto==1.5.1
mkdir "$work/tokens"
printf 'directories.tokendir = %s\nlog.level = ERROR\n' "$work/tokens" > "$work/softhsm2.conf"
export SOFTHSM2_CONF="$work/softhsm2.conf"
softhsm2-util --init-token --free --label bank --pin 1234 --so-pin 5678 > "$work/init.log"
cat > "$work/check.py" <<'PY'
import sys
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

places = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
module = next(place for place in places if Path(place).exists())
token = pkcs11.lib(module).get_token(token_label="bank")
private = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "key"}


def count(session) -> int:
    return len(list(session.get_objects(private)))


def sign(key) -> str:
    try:
        return f"{len(key.sign(b'data', mechanism=Mechanism.EDDSA))} bytes"
    except pkcs11.PKCS11Error as error:
        return type(error).__name__


first = token.open(rw=True, user_pin="1234")
curve = first.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: bytes.fromhex("06032b6570")}, local=True)
curve.generate_keypair(store=True, label="key", mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN)
try:
    token.open(user_pin="1234")
    again = "opened"
except pkcs11.PKCS11Error as error:
    again = type(error).__name__
second = token.open()
key = next(iter(second.get_objects(private)))
before = (count(second), sign(key))
first.close()
after = (count(second), sign(key))
third = token.open(user_pin="1234")
second.close()
other = (count(third), sign(next(iter(third.get_objects(private)))))
print("second open with the PIN:", again)
print("keys and a signature in the second session:", before, "after close of the first:", after)
print("the other order:", other)
seen = again, before, after, other
if seen != ("UserAlreadyLoggedIn", (1, "64 bytes"), (0, "ObjectHandleInvalid"), (1, "64 bytes")):
    sys.exit("changed: closing a session leaves the other sessions logged in")
PY
"$work/venv/bin/python" -W ignore "$work/check.py"
