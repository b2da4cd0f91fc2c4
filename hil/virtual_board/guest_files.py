"""The guest's own files: what Debian's maintainer scripts, which never run, would have written, and an init."""

from __future__ import annotations

from collections.abc import Mapping

from ..virtual_encoder.profiles import PROFILES, node_text

HOSTNAME = "vboard"
#: The SHA-512 crypt of "root", for the console alone: SSH takes keys only.
PASSWORD_HASH = "$6$vboard$v9BUvDy/VqotpQKL5YY.pZ.1s/PTWWg0xXVueKtXCl9yJsx6RfGBh21uHbwcEi/07YpZMAm2Kv8EvExaFU/BG0"
#: On Python's path, in this order: what is deployed over SSH, then what the image brings.
DEPLOYED = "/opt/featlink-app"
INSTALLED = "/opt/featlink"

#: The virtual encoder's node, made at every start, and what it is a copy of.
ENCODER_NODE = "/dev/v4l2-nvenc"
ENCODER_FILE = "/etc/vboard/v4l2-nvenc"

INITTAB = """\
::sysinit:/etc/vboard/start
ttyAMA0::respawn:/sbin/agetty -L ttyAMA0 115200 vt220
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/vboard/stop
"""

START = f"""\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm /run/sshd
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
hostname {HOSTNAME}
modprobe -a virtio_net virtio_rng 9pnet_virtio 9p
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
install -m 666 {ENCODER_FILE} {ENCODER_NODE}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 share /share
/usr/sbin/sshd
"""

STOP = """\
#!/bin/sh
sync
umount /share
mount -o remount,ro /
"""

PROFILE = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8
PS1='\\u@\\h:\\w\\$ '
"""

SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
KexAlgorithms curve25519-sha256
HostKeyAlgorithms ssh-ed25519
AcceptEnv LANG LC_* FEATLINK_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""

#: PAM of the console's login, in the place of the profiles that pam-auth-update writes.
PAM_LOGIN = """\
auth required pam_unix.so
account required pam_unix.so
password required pam_unix.so
session required pam_unix.so
"""

FEATLINK_DEVICE = """\
#!/usr/bin/python3
import sys

from featlink_device.cli import main

sys.exit(main())
"""


def guest_files(python: str, public_key: str) -> Mapping[str, str]:
    """Path and text of each file; those that begin with #! are programs.

    :param python: version of the guest's Python, as "3.11"
    :param public_key: who may log in over SSH
    """
    return {
        "etc/hostname": f"{HOSTNAME}\n",
        "etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n",
        "etc/resolv.conf": "nameserver 10.0.2.3\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/fstab": "/dev/vda / ext4 rw,noatime 0 0\n",
        "etc/inittab": INITTAB,
        "etc/vboard/start": START,
        "etc/vboard/stop": STOP,
        ENCODER_FILE[1:]: node_text(PROFILES["jetson"]),
        # Escape sequences before a prompt are not what labgrid waits for.
        "etc/inputrc": "set enable-bracketed-paste off\n",
        "etc/profile": PROFILE,
        "etc/ssh/sshd_config": SSHD,
        "etc/pam.d/login": PAM_LOGIN,
        "etc/pam.d/other": PAM_LOGIN,
        "root/.hushlogin": "",
        "root/.bashrc": PROFILE,
        "root/.ssh/authorized_keys": public_key,
        # Folders of a .pth file that do not exist are passed over.
        f"usr/local/lib/python{python}/dist-packages/featlink.pth": f"{DEPLOYED}\n{INSTALLED}\n",
        "usr/local/bin/featlink-device": FEATLINK_DEVICE,
    }


def accounts(passwd: str, group: str) -> Mapping[str, str]:
    """passwd, group and shadow by base-passwd's master files."""
    lines = [line.replace("root:*:", "root:x:", 1) for line in passwd.splitlines()]
    lines.append("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin")
    names = [line.partition(":")[0] for line in lines]
    hashes = {name: PASSWORD_HASH if name == "root" else "*" for name in names}
    return {
        "etc/passwd": "".join(f"{line}\n" for line in lines),
        "etc/group": group,
        "etc/shadow": "".join(f"{name}:{hashes[name]}:19000:0:99999:7:::\n" for name in names),
    }
