//! What a confined server may use: as much as its limits say, and no more.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{child_program, confinement};

/// Uses what its first argument names, up to a limit, and says what came of it and what refused it more.
const USES: &str = r#"
import ctypes, errno, os, sys, time
what, argument = sys.argv[1], int(sys.argv[2])
def refused(use):
    try: use()
    except OSError as error: return errno.errorcode[error.errno]
def files():
    numbers = []
    def use():
        while True: numbers.append(os.dup(0))
    return refused(use), max(numbers) + 1
def file():
    number = os.open(os.path.join(os.environ["HOME"], "file"), os.O_CREAT | os.O_RDWR)
    os.ftruncate(number, argument)
    os.pwrite(number, b"x", argument - 1)
    longer = [lambda: os.ftruncate(number, argument + 1), lambda: os.pwrite(number, b"x", argument)]
    return *map(refused, longer), os.fstat(number).st_size
def memory():
    libc, page = ctypes.CDLL(None), os.sysconf("SC_PAGE_SIZE")
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
    status, said, piece = os.open("/proc/self/status", os.O_RDONLY), bytearray(8192), 16384 * page
    while piece >= page:
        if libc.mmap(None, piece, 3, 0x22, -1, 0) == ctypes.c_void_p(-1).value: piece //= 2
    # There is hardly any left to say so.
    os.preadv(status, [said], 0)
    start = said.index(b"VmData:") + 7
    return int(said[start:said.index(b"kB", start)]) << 10
def processes(seconds=30):
    ends, end = os.pipe()
    def child(): os.close(end); os.read(ends, 1); os._exit(0)
    for _ in range(argument):
        if os.fork() == 0: child()
    time.sleep(seconds)
    return "all live"
def few():
    # Meanwhile the supervisor looks, several times.
    return processes(1)
def short_lived():
    for _ in range(400):
        if os.fork() == 0: os._exit(0)
        os.wait()
    return processes(0)
try: print(globals()[what]())
except OSError as error: print(errno.errorcode[error.errno])
"#;

/// How much memory the harness grants.
const MEMORY: u64 = 256 << 20;
/// How many processes and threads are granted here: no definition may grant fewer.
const PROCESSES: u64 = 16;

/// Lets a confined server use something, and returns what it says and what is said of it.
fn uses(namespaces: &str, what: &str, argument: u64) -> (String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut confinement = confinement(home.path(), namespaces);
    confinement["processes"] = json!(PROCESSES);
    let output = Command::new(child_program())
        .args(["__child", "supervise", &std::process::id().to_string(), &confinement.to_string()])
        .args(["python3", "-c", USES, what, &argument.to_string()])
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout).trim().to_owned(), text(output.stderr))
}

#[test]
fn so_many_files_can_be_open_and_the_next_one_not() {
    for namespaces in ["required", "off"] {
        let (found, said) = uses(namespaces, "files", 0);
        assert_eq!(found, "('EMFILE', 4096)", "{namespaces}: {said}");
    }
}

#[test]
fn a_file_may_be_as_long_as_the_limit_and_no_longer() {
    const LONGEST: u64 = 4_096 << 20;
    for namespaces in ["required", "off"] {
        let (found, said) = uses(namespaces, "file", LONGEST);
        assert_eq!(found, format!("('EFBIG', 'EFBIG', {LONGEST})"), "{namespaces}: {said}");
    }
}

#[test]
fn a_process_may_have_as_much_memory_as_the_limit_and_no_more() {
    for namespaces in ["required", "off"] {
        let (found, said) = uses(namespaces, "memory", 0);
        assert_eq!(found, MEMORY.to_string(), "{namespaces}: {said}");
    }
}

#[test]
fn so_many_processes_may_live_and_no_more() {
    // Beside those that it starts: the command itself and the process that confines it, which has a second thread where
    // nobody else ends the tree.
    for (namespaces, others) in [("required", 2), ("off", 3)] {
        let (found, said) = uses(namespaces, "few", PROCESSES - others);
        assert_eq!(found, "all live", "{namespaces}: {said}");
        let (found, said) = uses(namespaces, "processes", PROCESSES - others + 1);
        let is_ended = found.is_empty() && said.contains("the server is ended");
        assert!(is_ended || found == "EAGAIN", "{namespaces}: {found} {said}");
    }
}

#[test]
fn processes_that_ended_take_nothing_from_those_that_come() {
    let (found, said) = uses("required", "short_lived", PROCESSES - 2);
    assert_eq!(found, "all live", "{said}");
}
