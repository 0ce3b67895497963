//! Owns the one way in which a child on its way to its program calls the kernel.

/// A bare system call: its result, or the error number. Those of the C library write `errno`, which is the master's too.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        // SAFETY: plain numbers, or pointers to memory that is this child's until its exec (the image, its own stack); no memory of the
        // master's changes but the image.
        unsafe { syscalls::syscall!(syscalls::Sysno::$number $(, $argument)*) }.map_err(syscalls::Errno::into_raw)
    }};
}

pub(super) use call;
