//! Owns the names of Linux capabilities, as capabilities(7) and the kernel's `linux/capability.h` number them.

/// In the order of their numbers, from 0.
pub(crate) const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The number of a capability: `net_bind_service`, `CAP_NET_BIND_SERVICE`.
pub(crate) fn number(name: &str) -> Option<u8> {
    let lower = name.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("cap_").unwrap_or(&lower);
    NAMES.iter().zip(0..).find(|(known, _)| **known == bare).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, want) in [
            ("chown", Some(0)),
            ("CAP_NET_BIND_SERVICE", Some(10)),
            ("cap_sys_admin", Some(21)),
            ("checkpoint_restore", Some(40)),
            ("net_bind", None),
            ("", None),
        ] {
            assert_eq!(number(name), want, "{name}");
        }
    }
}
