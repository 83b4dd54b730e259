//! Files that belong to the whole host: settings of the kernel, its memory, `/sys`, cgroups.
//!
//! They are opened for writing or reading and closed. Nothing is written, ever.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::attempt::{Attempt, Control, Probe};
use crate::kernel;

const HAS_FILE: Control = Control::Where("a kernel that has this file and lets root have it");

pub(crate) fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for (name, path, control) in [
        ("core_pattern_write_open", "/proc/sys/kernel/core_pattern", Control::Allowed),
        ("drop_caches_write_open", "/proc/sys/vm/drop_caches", Control::Allowed),
        ("modprobe_path_write_open", "/proc/sys/kernel/modprobe", HAS_FILE),
        ("usermodehelper_write_open", "/proc/sys/kernel/usermodehelper/bset", HAS_FILE),
        ("binfmt_register_write_open", "/proc/sys/fs/binfmt_misc/register", HAS_FILE),
        ("sysrq_write_open", "/proc/sysrq-trigger", HAS_FILE),
        ("timer_migration_write_open", "/proc/sys/kernel/randomize_va_space", Control::Allowed),
        ("uevent_helper_write_open", "/sys/kernel/uevent_helper", HAS_FILE),
        ("irq_affinity_write_open", "/proc/irq/default_smp_affinity", HAS_FILE),
        ("mtrr_write_open", "/proc/mtrr", HAS_FILE),
    ] {
        probes.push(Probe::refused(name, control, move || write_open(path)));
    }
    for (name, path) in [
        ("kernel_memory_read", "/proc/kcore"),
        ("kernel_log_file_read", "/proc/kmsg"),
        ("page_flags_read", "/proc/kpageflags"),
        ("page_counts_read", "/proc/kpagecount"),
        ("page_groups_read", "/proc/kpagecgroup"),
    ] {
        probes.push(Probe::refused(name, HAS_FILE, move || Attempt::of(read_open(path))));
    }
    for (name, path) in [
        ("keyrings_read", "/proc/keys"),
        ("keyring_users_read", "/proc/key-users"),
        ("slabs_read", "/proc/slabinfo"),
        ("kernel_mappings_read", "/proc/vmallocinfo"),
        ("timers_read", "/proc/timer_list"),
        ("scheduler_read", "/proc/sched_debug"),
    ] {
        probes.push(Probe::refused(name, HAS_FILE, move || has_text(path)));
    }
    probes.push(Probe::refused("kernel_addresses_read", HAS_FILE, kernel_addresses));
    probes.push(Probe::refused("kernel_settings_write_open", Control::Allowed, any_setting));
    probes.push(Probe::refused("sys_present", Control::Where("/sys"), || {
        first_of("/sys").map_or_else(|| Attempt::absent("empty or absent"), Attempt::Allowed)
    }));
    probes.push(Probe::refused("sys_kernel_present", Control::Where("/sys"), || {
        first_of("/sys/kernel").map_or_else(|| Attempt::absent("empty or absent"), Attempt::Allowed)
    }));
    probes.push(Probe::refused("firmware_present", Control::Where("firmware tables"), || {
        let found = first_of("/sys/firmware").or_else(|| first_of("/proc/acpi"));
        found.map_or_else(|| Attempt::absent("empty or absent"), Attempt::Allowed)
    }));
    let mounted = Control::Where("a mounted cgroup hierarchy");
    probes.push(Probe::refused("cgroup_write_open", mounted, cgroup_write_open));
    probes.push(Probe::refused("cgroup_visible", mounted, || {
        hierarchies().first().map_or_else(
            || Attempt::absent("no cgroup hierarchy is mounted"),
            |path| Attempt::Allowed(path.display().to_string()),
        )
    }));
    let fits = Control::Where("a kernel file system of this kind that is mounted");
    for (name, path) in [
        ("debug_files_present", "/sys/kernel/debug"),
        ("trace_files_present", "/sys/kernel/tracing"),
        ("bpf_files_present", "/sys/fs/bpf"),
        ("security_files_present", "/sys/kernel/security"),
    ] {
        probes.push(Probe::refused(name, fits, move || {
            first_of(path).map_or_else(|| Attempt::absent("empty or absent"), Attempt::Allowed)
        }));
    }
    for (name, path) in [
        ("system_programs_write_open", "/usr/bin/env"),
        ("libraries_write_open", "/usr/lib/os-release"),
    ] {
        probes.push(Probe::refused(name, HAS_FILE, move || write_open(path)));
    }
    for (name, folder) in [
        ("system_folder_new_file", "/usr"),
        ("program_folder_new_file", "/usr/bin"),
        ("root_folder_new_file", "/"),
        ("etc_new_file", "/etc"),
    ] {
        let root = Control::Where("a root file system that root may write to");
        probes.push(Probe::refused(name, root, move || new_file(folder)));
    }
    probes.push(Probe::refused("set_user_id_program_gains", Control::Allowed, set_user_id));
    probes
}

pub(crate) fn write_open(path: impl AsRef<Path>) -> Attempt {
    Attempt::of(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path))
}

fn read_open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether there is a byte in it: a masked file opens and is empty.
fn has_text(path: &str) -> Attempt {
    match read_open(path).and_then(|mut file| file.read(&mut [0])) {
        Ok(0) => Attempt::absent("empty"),
        Ok(_) => Attempt::Allowed("has text".into()),
        Err(error) => Attempt::refused(&error),
    }
}

/// Addresses are zeros for those who may not know them.
fn kernel_addresses() -> Attempt {
    let text = match fs::read_to_string("/proc/kallsyms") {
        Ok(text) => text,
        Err(error) => return Attempt::refused(&error),
    };
    let known = text.lines().find(|line| !line.starts_with("0000000000000000"));
    match known {
        Some(_) => Attempt::Allowed("addresses are shown".into()),
        None => Attempt::absent("all zeros, or empty"),
    }
}

/// Opens every setting of the kernel for writing.
fn any_setting() -> Attempt {
    let mut folders = vec![PathBuf::from("/proc/sys")];
    let (mut seen, mut open) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    seen += 1;
                    if let Attempt::Allowed(_) = write_open(&path) {
                        open.push(path.display().to_string());
                    }
                }
                _ => {}
            }
        }
    }
    if open.is_empty() {
        Attempt::absent(format!("none of {seen}"))
    } else {
        open.truncate(5);
        Attempt::Allowed(format!("of {seen} at least {}", open.join(", ")))
    }
}

/// The first entry of a folder.
fn first_of(path: &str) -> Option<String> {
    let entry = fs::read_dir(path).ok()?.flatten().next()?;
    Some(entry.path().display().to_string())
}

/// Where cgroup hierarchies are mounted, as this process sees it.
fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect()
}

fn cgroup_write_open() -> Attempt {
    for hierarchy in hierarchies() {
        for name in ["cgroup.procs", "tasks", "release_agent", "cgroup.subtree_control"] {
            if let Attempt::Allowed(_) = write_open(hierarchy.join(name)) {
                return Attempt::Allowed(hierarchy.join(name).display().to_string());
            }
        }
    }
    Attempt::absent("no file of a cgroup could be opened")
}

/// Makes an empty file of a name that nothing else has, and takes it away.
fn new_file(folder: &str) -> Attempt {
    let path = Path::new(folder).join(format!(".posthouse-probe-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    if made.is_ok() {
        let _ = fs::remove_file(&path);
    }
    Attempt::of(made)
}

/// Whether a program that is set-user-ID root would run as root. None is started.
fn set_user_id() -> Attempt {
    let mut found = None;
    for folder in ["/usr/bin", "/usr/sbin", "/bin", "/usr/lib"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = fs::metadata(entry.path()) else { continue };
            if about.is_file() && about.permissions().mode() & 0o4000 != 0 && about.uid() == 0 {
                found = Some(entry.path());
            }
        }
    }
    // Where none is there, one of one's own shows whether the bit would count.
    let path = found.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    match kernel::status("NoNewPrivs").as_deref() {
        Some("1") => Attempt::absent(format!("no new privileges are given ({path})")),
        other => Attempt::Allowed(format!("new privileges: {other:?}, {path}")),
    }
}
