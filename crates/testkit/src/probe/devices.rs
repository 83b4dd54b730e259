//! Devices: those that a host has, and making new ones.
//!
//! A device is opened without blocking and closed. Left alone are devices that do something
//! when they are opened: watchdogs, the door to hibernation.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::attempt::{Attempt, Control, Probe};
use crate::kernel::call;

const PRESENT: Control = Control::Where("a host that has this device");

const NAMES: &[&str] = &[
    "mem",
    "port",
    "kmsg",
    "kvm",
    "fuse",
    "cuse",
    "net/tun",
    "loop-control",
    "loop0",
    "btrfs-control",
    "mapper/control",
    "vhost-net",
    "vhost-vsock",
    "vsock",
    "userfaultfd",
    "autofs",
    "hpet",
    "nvram",
    "rfkill",
    "uinput",
    "uhid",
    "vfio/vfio",
    "cpu/0/msr",
    "cpu/0/cpuid",
    "dri/card0",
    "nvidiactl",
    "input/event0",
    "tty0",
    "tty1",
    "ttyS0",
    "vcs",
    "vga_arbiter",
    "hwrng",
    "zram0",
    "cpu_dma_latency",
    "sgx_enclave",
    "sev-guest",
    "nitro_enclaves",
    "vmci",
    "udmabuf",
    "dma_heap/system",
    "binder",
    "ppp",
    "snd/seq",
    "sg0",
    "nvme0",
    "mtd0",
];

/// All that a program needs of `/dev`.
const WANTED: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin",
    "stdout", "stderr", "core", "mqueue", "console",
];

pub(crate) fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for name in NAMES {
        let title = format!("device_{}", name.replace(['/', '-'], "_"));
        probes.push(Probe::refused(title, PRESENT, move || open(&Path::new("/dev").join(name))));
    }
    probes.push(Probe::refused("device_of_a_disk", PRESENT, disk));
    probes.push(Probe::refused("device_beyond_the_list", PRESENT, beyond));
    let make = Control::Where("a root that may make devices");
    probes.push(Probe::refused("make_character_device", make, || make_device(libc::S_IFCHR, 1, 1)));
    probes.push(Probe::refused("make_block_device", make, || make_device(libc::S_IFBLK, 7, 0)));
    probes
}

fn open(path: &Path) -> Attempt {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let read = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let answer = match read {
        Err(_) if path.exists() => OpenOptions::new().write(true).custom_flags(flags).open(path),
        other => other,
    };
    Attempt::of(answer)
}

/// Opens each disk by its name: those that the kernel lists, and those that are there.
fn disk() -> Attempt {
    let listed = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let listed = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    let mut names: Vec<String> = listed.map(str::to_owned).collect();
    names.extend(present().filter(|(_, block)| *block).map(|(name, _)| name));
    let mut last = Attempt::absent("no disk has a name here");
    for name in names {
        last = open(&Path::new("/dev").join(&name));
        if let Attempt::Allowed(_) = last {
            return Attempt::Allowed(name);
        }
    }
    last
}

/// Whatever stands in `/dev` beside what programs need.
fn beyond() -> Attempt {
    let mut names = present().map(|(name, _)| name).filter(|name| !WANTED.contains(&name.as_str()));
    match names.next() {
        Some(name) => Attempt::Allowed(name),
        None => Attempt::absent("nothing more than a program needs"),
    }
}

/// The devices of `/dev` by name, and whether each is a disk.
fn present() -> impl Iterator<Item = (String, bool)> {
    fs::read_dir("/dev").into_iter().flatten().flatten().filter_map(|entry| {
        let kind = entry.file_type().ok()?;
        let device = kind.is_block_device() || kind.is_char_device();
        device.then(|| (entry.file_name().to_string_lossy().into_owned(), kind.is_block_device()))
    })
}

fn make_device(kind: u32, major: u32, minor: u32) -> Attempt {
    let path = std::env::temp_dir().join(format!("posthouse-probe-device-{}", std::process::id()));
    let Ok(text) = CString::new(path.as_os_str().as_encoded_bytes()) else {
        return Attempt::absent("the folder for temporary files has a name with a zero");
    };
    let device = i64::try_from(libc::makedev(major, minor)).unwrap_or_default();
    let answer = call!(libc::SYS_mknodat, libc::AT_FDCWD, text.as_c_str(), kind | 0o600, device);
    if answer.is_ok() {
        let _ = fs::remove_file(&path);
    }
    Attempt::by_success(answer)
}
