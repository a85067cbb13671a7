//! The compile worker's cell. A process that has entered it can compute, take memory within its limits,
//! start threads, and use the descriptors 0, 1 and 2. Nothing else.
//!
//! Three walls, each of which holds without the others: resource limits, which every kernel has; Landlock
//! (no files from Linux 5.13 on, no TCP from 6.7 on, no signals to others from 6.12 on); and a filter that
//! lets through the system calls of a computation alone, which need no socket of any kind. The last two are
//! there where the kernel has them.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, RestrictionStatus,
    Ruleset, RulesetAttr as _, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};
use std::{collections::BTreeMap, io};

/// Processor seconds, of all threads together: the stock guest takes 15 to 20.
pub(crate) const CPU_SECONDS_MAX: u64 = 600;
/// Address space: the stock guest's compilation peaks at a quarter of this.
pub(crate) const ADDRESS_BYTES_MAX: u64 = 8 << 30;
/// Standard input, output and error, and not one more.
const DESCRIPTORS_MAX: u64 = 3;

/// Closes what this process inherited, but for standard input, output and error. The first thing that it
/// does: nothing in it owns a descriptor yet.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: no memory is touched. Descriptors from 3 on belong to nobody in this process: its caller
    // says that it is the first thing that it does (see `worker_main`).
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, DESCRIPTORS_MAX as u32, u32::MAX, 0u32) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Enters the cell, for good, with all threads there are.
///
/// # Errors
/// When a wall that this kernel has cannot be put up. Then nothing of a stranger may be touched.
pub(crate) fn enter() -> io::Result<()> {
    enter_unfiltered()?;
    for filter in filters().map_err(io::Error::other)? {
        match apply_filter_all_threads(&filter) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

/// All but the filter, behind which the kernel cannot even be asked what holds.
fn enter_unfiltered() -> io::Result<()> {
    tie()?;
    // Takes a descriptor for a moment.
    forbid_files_and_network().map_err(io::Error::other)?;
    limit()
}

fn tie() -> io::Result<()> {
    // A host that is killed takes its workers along.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Which walls this kernel has for a compile worker, beside resource limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walls {
    /// No files from Linux 5.13 on, no TCP from 6.7 on, no signals to others from 6.12 on.
    pub landlock: bool,
    /// The system calls of a computation alone.
    pub seccomp: bool,
}

impl Walls {
    /// Asks the kernel.
    pub fn of_this_kernel() -> Self {
        let action: u32 = libc::SECCOMP_RET_ERRNO;
        // SAFETY: the call reads one u32 from the pointer, which is to one.
        let seccomp = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_GET_ACTION_AVAIL,
                0u32,
                &raw const action,
            )
        };
        Self { landlock: landlock_version() > 0, seccomp: seccomp == 0 }
    }
}

/// The version of the kernel's Landlock; not above 0 where there is none.
fn landlock_version() -> i64 {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the call takes no structure, and gives a number.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) }
}

fn limit() -> io::Result<()> {
    for (resource, max) in [
        (Resource::As, ADDRESS_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Fsize, 0), // no files; stdout is a pipe
        (Resource::Core, 0),
        (Resource::Nofile, DESCRIPTORS_MAX),
    ] {
        setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) })?;
    }
    Ok(())
}

/// The newest rights that were looked at when this was written; an older kernel has fewer. Of the network
/// they are TCP's `bind` and `connect`: other sockets are the filter's.
const LANDLOCK: ABI = ABI::V6;

fn forbid_files_and_network() -> Result<RestrictionStatus, RulesetError> {
    // All rights are handled and no rule grants one. What a kernel does not know is left out.
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()
}

/// The filters, in the order in which they are put up; the last word is the strictest.
fn filters() -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    // What clone3 would do lies in memory, where no filter looks: the C library uses clone where there
    // is no clone3.
    let without_clone3 = SeccompFilter::new(
        [(libc::SYS_clone3, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    )?;
    let computation = SeccompFilter::new(
        allowed()?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        arch,
    )?;
    Ok([without_clone3.try_into()?, computation.try_into()?])
}

/// What a computation with threads asks a kernel for.
fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<_, _> = [
        libc::SYS_brk,
        libc::SYS_clock_getres,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_clone3, // for the other filter to answer
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_fstat,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_ppoll,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_restart_syscall,
        libc::SYS_rseq,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_write,
        libc::SYS_writev,
    ]
    .into_iter()
    .map(|call| (call, Vec::new()))
    .collect();
    let only_if = |argument, bits: u64, value: u64| {
        let masked = SeccompCmpOp::MaskedEq(bits);
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, masked, value)?;
        Ok::<_, seccompiler::BackendError>(vec![SeccompRule::new(vec![condition])?])
    };
    // Memory is never code here.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, only_if(2, libc::PROT_EXEC as u64, 0)?);
    }
    // Threads of this process, no others.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, only_if(0, thread, thread)?);
    // Of all that prctl does, a thread's name.
    rules.insert(libc::SYS_prctl, only_if(0, u64::MAX, libc::PR_SET_NAME as u64)?);
    // How `abort` ends this process.
    rules.insert(libc::SYS_tgkill, only_if(0, u64::MAX, std::process::id().into())?);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getrlimit, parent_process_death_signal};
    use std::{
        env,
        fs::{self, File},
        net::{TcpListener, TcpStream, UdpSocket},
        os::fd::{AsRawFd as _, IntoRawFd as _},
        os::unix::net::UnixStream,
        process::Command,
        thread,
    };

    const PROBE: &str = "FUELBOX_CONFINE_PROBE";

    /// A process of this test alone: whoever enters the cell never comes out.
    fn probe(what: &str) -> (bool, String) {
        let inherited = File::open("/dev/null").expect("a file");
        // Without close-on-exec it is handed down.
        // SAFETY: a flag of a descriptor that is open is changed.
        let set = unsafe { libc::fcntl(inherited.as_raw_fd(), libc::F_SETFD, 0) };
        assert_eq!(set, 0);
        // Somebody to connect to.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let test = "confine::tests::the_probe";
        let output = Command::new(env::current_exe().expect("a test is a program"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PROBE, format!("{what} {} {port}", inherited.into_raw_fd()))
            .output()
            .expect("a process");
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }

    #[test]
    fn the_probe() {
        let Ok(asked) = env::var(PROBE) else { return };
        let words: Vec<&str> = asked.split(' ').collect();
        let [what, inherited, port] = *words else { panic!("{asked}") };
        let inherited: i32 = inherited.parse().expect("a descriptor");
        let port: u16 = port.parse().expect("a port");
        // SAFETY: flags of a descriptor are read, if it is one.
        let is_open = || unsafe { libc::fcntl(inherited, libc::F_GETFD) } >= 0;
        assert!(is_open(), "it was handed down");
        match what {
            "all" => {
                close_inherited().expect("closed");
                assert!(!is_open());
                enter().expect("walls");
            }
            "limits" => {
                assert!(can_reserve(ADDRESS_BYTES_MAX), "it is the limit that forbids it");
                limit().expect("limits");
                return assert_limited();
            }
            // By itself: the crates of both other walls set it, too.
            "tie" => {
                tie().expect("tied");
                return assert_tied();
            }
            "unfiltered" => {
                enter_unfiltered().expect("walls");
                assert_tied();
                assert_limited();
            }
            "landlock" => drop(forbid_files_and_network().expect("a wall")),
            "seccomp" => {
                for filter in filters().expect("filters") {
                    apply_filter_all_threads(&filter).expect("a wall");
                }
            }
            _ => panic!("{what}"),
        }
        let can = |name: &str, can: bool| println!("can {name}: {can}");
        can("read files", File::open("/proc/self/status").is_ok());
        can("list folders", fs::read_dir("/").is_ok());
        can("write files", fs::write(env::temp_dir().join("fuelbox-probe"), "x").is_ok());
        // Without a descriptor.
        let folder = env::temp_dir().join(format!("fuelbox-probe-{}", std::process::id()));
        can("make folders", fs::create_dir(&folder).and_then(|()| fs::remove_dir(&folder)).is_ok());
        can("listen", TcpListener::bind("127.0.0.1:0").is_ok());
        can("connect", TcpStream::connect(("127.0.0.1", port)).is_ok());
        can("send", UdpSocket::bind("127.0.0.1:0").is_ok());
        can("make sockets", UnixStream::pair().is_ok());
        can("run programs", Command::new("/bin/true").status().is_ok());
        // SAFETY: asks for permission alone, of the parent.
        can("signal others", unsafe { libc::kill(libc::getppid(), 0) } == 0);
        // SAFETY: a page of its own, which is not kept.
        let page = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_EXEC, flags, -1, 0)
        };
        can("make code", page != libc::MAP_FAILED);
        // SAFETY: the child, if there is one, ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: nothing is run on the way out.
            unsafe { libc::_exit(0) };
        }
        can("fork", child > 0);
        can("compute with threads", thread::spawn(|| vec![7; 1 << 20]).join().is_ok());
    }

    /// Whether so much of the address space is to be had. Nobody asks for the memory behind it.
    fn can_reserve(bytes: u64) -> bool {
        // SAFETY: pages of its own, that cannot be touched, and are not kept.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let bytes = bytes as usize;
            let place = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            place != libc::MAP_FAILED && libc::munmap(place, bytes) == 0
        }
    }

    /// As `docs/threat-model.md` has it, in numbers of its own.
    fn assert_limited() {
        for (resource, max) in [
            (Resource::As, 8 << 30),
            (Resource::Cpu, 600),
            (Resource::Fsize, 0),
            (Resource::Core, 0),
            (Resource::Nofile, 3),
        ] {
            // The hard one, too: a process may raise the other up to it.
            let expected = Rlimit { current: Some(max), maximum: Some(max) };
            assert_eq!(getrlimit(resource), expected, "{resource:?}");
        }
        assert!(File::open("/dev/null").is_err());
        // What the process has already counts.
        assert!(!can_reserve(8 << 30));
        assert!(can_reserve(4 << 30));
    }

    fn assert_tied() {
        assert_eq!(rustix::thread::no_new_privs(), Ok(true));
        assert_eq!(parent_process_death_signal(), Ok(Some(Signal::KILL)));
    }

    #[test]
    fn the_kernel_says_which_walls_it_has() {
        let walls = Walls::of_this_kernel();
        // As the kernel's own list of what is built in has it.
        if let Ok(modules) = fs::read_to_string("/sys/kernel/security/lsm") {
            assert_eq!(walls.landlock, modules.split(',').any(|name| name == "landlock"));
        }
        let status = fs::read_to_string("/proc/self/status").expect("readable");
        assert_eq!(walls.seccomp, status.contains("\nSeccomp_filters:"), "{status}");
    }

    fn check(what: &str, cannot: &[&str], can: &[&str]) {
        let (ended, printed) = probe(what);
        assert!(ended, "{what}: {printed}");
        for (names, expected) in [(cannot, false), (can, true)] {
            for name in names {
                let line = format!("can {name}: {expected}");
                assert!(printed.contains(&line), "{what}: '{line}' is not in\n{printed}");
            }
        }
    }

    #[test]
    fn a_computation_is_all_that_can_be_done_in_the_cell() {
        let cannot = [
            "read files",
            "list folders",
            "write files",
            "make folders",
            "listen",
            "connect",
            "send",
            "make sockets",
            "run programs",
            "signal others",
            "make code",
            "fork",
        ];
        check("all", &cannot, &["compute with threads"]);
        check("seccomp", &cannot, &["compute with threads"]);
    }

    #[test]
    fn resources_are_limited_and_the_worker_is_tied_to_its_host() {
        check("limits", &[], &[]);
        check("tie", &[], &[]);
    }

    #[test]
    fn landlock_forbids_what_this_kernel_knows() {
        // With the version of Landlock from which on it is forbidden; the rest is the filter's.
        let (mut cannot, mut can) = (vec![], vec!["send", "make sockets", "fork", "make code"]);
        for (name, since) in [
            ("read files", 1),
            ("list folders", 1),
            ("write files", 1),
            ("make folders", 1),
            ("run programs", 1),
            ("listen", 4),
            ("connect", 4),
            ("signal others", 6),
        ] {
            if landlock_version() >= since { cannot.push(name) } else { can.push(name) }
        }
        can.push("compute with threads");
        check("landlock", &cannot, &can);
    }

    #[test]
    fn limits_and_landlock_are_up_before_the_filter() {
        let landlock: &[_] = if landlock_version() >= 1 { &["make folders"] } else { &[] };
        check("unfiltered", landlock, &["fork", "make code", "compute with threads"]);
    }
}
