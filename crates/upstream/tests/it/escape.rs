//! A program that tries to get out of its confinement. Each attempt fails confined, and succeeds in a
//! control run without confinement: an attempt that never works would prove nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{child_program, confinement};

/// Does what its first argument names, with the second, and ends with 0 if it got what it wanted.
const ATTEMPTS: &str = r#"
import ctypes, errno, os, resource, signal, socket, struct, subprocess, sys, time, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
what, arg = sys.argv[1], sys.argv[2]
def good(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
NUMBERS = {"x86_64": {"perf": 298, "keyctl": 250, "bpf": 321}, "aarch64": {"perf": 241, "keyctl": 219, "bpf": 280}}
def call(name, *args): good(libc.syscall(NUMBERS[os.uname().machine].get(name, name), *args))
def blank(*words): return ctypes.create_string_buffer(struct.pack("I" * len(words), *words).ljust(128, b"\0"))
def read(path): return open(path, "rb").read(1)
def write(path):
    with open(path, "a") as file: file.write("x")
def fetch(url):
    for name in ("no_proxy", "NO_PROXY"): os.environ.pop(name, None)
    return urllib.request.urlopen(url, timeout=5).read()
def connect(address, family=socket.AF_INET):
    with socket.socket(family) as one: one.settimeout(5); one.connect(address)
def sent(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.connect(("127.0.0.1", port)); one.send(b"x"); one.send(b"x")
def opened(port):
    with socket.socket() as one: one.sendto(b"GET / HTTP/1.0\r\n\r\n", socket.MSG_FASTOPEN, ("127.0.0.1", port)); one.recv(1)
def listened():
    with socket.socket() as one: one.listen()
def datagram():
    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM): one.sendto(b"x", arg)
def shared_memory():
    libc.shmat.restype = ctypes.c_long
    if libc.shmat(int(arg), None, 0) == -1: raise OSError(ctypes.get_errno(), "shmat")
def linked(link):
    os.chdir(os.environ["HOME"]); link(arg, "link"); read("link")
def bomb():
    children = []
    for _ in range(1000):
        child = os.fork()
        if child == 0: time.sleep(100); os._exit(0)
        children.append(child)
    time.sleep(2)
    for child in children: os.kill(child, 9)
def hog():
    hold = []
    for _ in range(64): hold.append(bytearray(16 << 20))
def hogs():
    children = []
    for _ in range(12):
        child = os.fork()
        if child == 0: hold = bytearray(b"x") * (40 << 20); time.sleep(5); os._exit(0)
        children.append(child)
    time.sleep(4)
    for child in children: os.kill(child, 9)
def grow():
    path = os.path.join(arg, "sparse")
    with open(path, "wb") as file: file.truncate(1 << 40)
    os.unlink(path)
def ptrace(pid):
    good(libc.ptrace(16, pid, None, None)); os.waitpid(pid, 0x40000000); good(libc.ptrace(17, pid, None, None))
def mount():
    good(libc.mount(b"none", arg.encode(), b"tmpfs", 0, None)); good(libc.umount2(arg.encode(), 2))
def clone():
    child = libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0: os._exit(0)
    good(child)
def handle():
    found, mount = blank(64), ctypes.c_int()
    good(libc.name_to_handle_at(-100, arg.encode(), found, ctypes.byref(mount), 0))
    os.close(good(libc.open_by_handle_at(os.open("/", os.O_RDONLY), found, os.O_RDONLY)))
def setuid():
    said = subprocess.check_output([arg, "-u"], text=True).strip()
    if said != "4242": raise PermissionError(said)
def core():
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0: raise PermissionError("no core")
def second_set():
    # A kernel without it says that there is no such call, and not that it is refused.
    if libc.syscall(0x40000000 | 39) < 0 and ctypes.get_errno() == errno.EPERM: raise PermissionError("refused")
def capabilities():
    words = dict(line.split(":\t") for line in open("/proc/self/status"))
    if all(int(words["Cap" + name], 16) == 0 for name in ("Inh", "Prm", "Eff", "Amb")): raise PermissionError("no capability")
attempts = {
    "read": lambda: read(arg),
    "list": lambda: os.listdir(arg),
    "write": lambda: write(arg),
    "truncate": lambda: os.truncate(arg, 1),
    "remove": lambda: os.unlink(arg),
    "execute": lambda: subprocess.check_call([arg]),
    "symlink": lambda: linked(os.symlink),
    "hard link": lambda: linked(os.link),
    "up": lambda: read(os.path.join(os.environ["HOME"], "../" * 40 + arg)),
    "root": lambda: read("/proc/self/root" + arg),
    "path descriptor": lambda: read("/proc/self/fd/" + str(os.open(arg, os.O_PATH))),
    "tcp": lambda: connect(("127.0.0.1", int(arg))),
    "proxy": lambda: fetch("http://127.0.0.1:" + arg + "/"),
    "proxy by name": lambda: fetch("http://localhost:" + arg + "/"),
    "fetch": lambda: fetch(arg),
    "udp": lambda: sent(int(arg)),
    "unix": lambda: connect(arg, socket.AF_UNIX),
    "abstract": lambda: connect("\0" + arg, socket.AF_UNIX),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "kill": lambda: os.kill(int(arg), 0),
    "ptrace": lambda: ptrace(int(arg)),
    "ptrace the parent": lambda: ptrace(os.getppid()),
    "memory": lambda: open("/proc/" + arg + "/mem", "rb").close(),
    "environ": lambda: read("/proc/" + arg + "/environ"),
    "unshare": lambda: good(libc.unshare(0x10020000)),
    "clone": clone,
    "mount": mount,
    "mode": lambda: os.chmod(arg, 0o666),
    "owner": lambda: os.chown(arg, os.getuid(), os.getgid()),
    "times": lambda: os.utime(arg),
    "fast open": lambda: opened(int(arg)),
    "listen": listened,
    "internet": lambda: socket.socket().close(),
    "datagram": datagram,
    "shared memory": shared_memory,
    "io_uring": lambda: call(425, 1, blank()),
    "keys": lambda: call("keyctl", 0, -3, 1),
    "bpf": lambda: call("bpf", 0, blank(2, 4, 4, 1, 0, 0), 128),
    "perf": lambda: call("perf", blank(1, 128), 0, -1, -1, 0),
    "file handle": handle,
    "personality": lambda: good(libc.personality(0x0040000)),
    "bomb": bomb,
    "hog": hog,
    "hogs": hogs,
    "grow": grow,
    "setuid": setuid,
    "inherited": lambda: os.read(3, 1),
    "core": core,
    "capabilities": capabilities,
    "second set": second_set,
    "see": lambda: os.stat("/proc/" + arg),
}
try: attempts[what]()
except (OSError, MemoryError, subprocess.CalledProcessError) as error: print(repr(error)); sys.exit(42)
"#;

/// The exit code of an attempt that was refused; a mistake in it has another.
const REFUSED: i32 = 42;

/// Makes memory to share under a number (System V), says which, and keeps it until its input ends.
const SHARED_MEMORY: &str = r"
import ctypes, sys
libc = ctypes.CDLL(None)
number = libc.shmget(0, 4096, 0o1600)
print(number, flush=True); sys.stdin.read()
libc.shmctl(number, 0, None)
";

/// Where programs are, for both runs: what only the free one could read would prove nothing.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Is a machine with something on it that is nobody's business.
struct Yard {
    folder: TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    sibling: Child,
    abstract_name: String,
    memory: Child,
    memory_number: String,
    _datagrams: UnixDatagram,
    _unix: [UnixListener; 2],
}

/// Says how an attempt is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    /// As the hub's own user.
    Free,
    /// Confined with all that the kernel has.
    Confined,
    /// Confined without namespaces, as where the kernel refuses them.
    WithoutNamespaces,
}

impl Yard {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["home", "outside"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("outside/program"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("outside/program"), PermissionsExt::from_mode(0o755)).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let served = tcp.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in served.incoming().flatten() {
                answer(stream);
            }
        });
        let abstract_name = folder.path().to_str().unwrap().replace('/', "-");
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let unix = UnixListener::bind(at("outside/socket")).unwrap();
        let (mut memory, mut memory_number) = (shared_memory(), String::new());
        BufReader::new(memory.stdout.as_mut().unwrap()).read_line(&mut memory_number).unwrap();
        Self {
            memory,
            memory_number: memory_number.trim().to_owned(),
            _datagrams: UnixDatagram::bind(at("outside/datagrams")).unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            sibling: Command::new("sleep").arg("1000").env("SECRET", "x").spawn().unwrap(),
            _unix: [unix, UnixListener::bind_addr(&address).unwrap()],
            abstract_name,
            tcp,
            folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs an attempt and returns its exit code with what it said.
    fn run(&self, run: Run, what: &str, arg: &str) -> (Option<i32>, String) {
        let home = self.at("home");
        let confinement = match run {
            Run::Free => "off".to_owned(),
            Run::Confined => confinement(&home, "required").to_string(),
            Run::WithoutNamespaces => confinement(&home, "off").to_string(),
        };
        self.run_as(&confinement, what, arg)
    }

    fn run_as(&self, confinement: &str, what: &str, arg: &str) -> (Option<i32>, String) {
        let (home, secret) = (self.at("home"), self.at("outside/secret"));
        std::fs::write(&secret, "secret").unwrap();
        let mut command = Command::new("sh");
        // The descriptor 3 is one that whoever started the hub left open.
        command.args(["-c", r#"exec 3<"$0" "$@""#]).arg(&secret);
        let output = command
            .arg(child_program())
            .args(["__child", "supervise", &std::process::id().to_string(), confinement])
            .args(["python3", "-c", ATTEMPTS, what, arg])
            .env("PATH", PATH)
            .env("HOME", &home)
            .current_dir(&home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let left = home.join("link");
        if left.symlink_metadata().is_ok() {
            std::fs::remove_file(left).unwrap();
        }
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// Lists the attempts with what they are aimed at.
    fn attempts(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.at(name).to_str().unwrap().to_owned();
        let (secret, outside) = (path("outside/secret"), path("outside"));
        let (tcp, udp) = (self.tcp.local_addr().unwrap(), self.udp.local_addr().unwrap());
        let (tcp, udp) = (tcp.port().to_string(), udp.port().to_string());
        let (hub, sibling) = (std::process::id().to_string(), self.sibling.id().to_string());
        let on_files =
            ["read", "write", "truncate", "remove", "symlink", "hard link", "up", "root", "path descriptor"];
        let on_sibling = ["kill", "ptrace", "memory", "environ"];
        let on_nothing = [
            "unshare",
            "clone",
            "io_uring",
            "keys",
            "second set",
            "personality",
            "bomb",
            "hog",
            "hogs",
            "inherited",
            "core",
        ];
        let mut all: Vec<(&str, String)> = Vec::new();
        all.extend(on_files.map(|what| (what, secret.clone())));
        all.extend(on_sibling.map(|what| (what, sibling.clone())));
        all.extend(on_nothing.map(|what| (what, String::new())));
        all.extend(["tcp", "proxy", "proxy by name", "fast open"].map(|what| (what, tcp.clone())));
        all.extend([
            ("list", outside.clone()),
            ("execute", path("outside/program")),
            ("write", path("outside/new")),
            ("udp", udp),
            ("unix", path("outside/socket")),
            ("datagram", path("outside/datagrams")),
            ("shared memory", self.memory_number.clone()),
            ("abstract", self.abstract_name.clone()),
            ("vsock", String::new()),
            ("kill", hub.clone()),
            ("memory", hub.clone()),
            ("environ", hub),
            ("ptrace the parent", String::new()),
            ("grow", path("home")),
        ]);
        all
    }

    /// Lists the attempts that one way of confinement keeps, and not the other.
    fn attempts_at(&self, run: Run) -> Vec<(&'static str, String)> {
        let secret = self.at("outside/secret").to_str().unwrap().to_owned();
        let on_files = || ["mode", "owner", "times"].map(|what| (what, secret.clone())).to_vec();
        match run {
            Run::Free => [on_files(), vec![("listen", String::new())]].concat(),
            Run::Confined => on_files(),
            Run::WithoutNamespaces => vec![("listen", String::new())],
        }
    }

    /// Lists the attempts that nobody but the superuser could make at all.
    fn attempts_of_root(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.at(name).to_str().unwrap().to_owned();
        std::fs::copy("/usr/bin/id", self.at("home/id")).unwrap();
        std::os::unix::fs::chown(self.at("home/id"), Some(4242), None).unwrap();
        std::fs::set_permissions(self.at("home/id"), PermissionsExt::from_mode(0o4755)).unwrap();
        vec![
            ("read", "/etc/shadow".to_owned()),
            ("list", "/root".to_owned()),
            ("capabilities", String::new()),
            ("setuid", path("home/id")),
            ("file handle", path("outside/secret")),
            ("mount", path("home")),
            ("packet", String::new()),
            ("raw", String::new()),
            ("bpf", String::new()),
            ("perf", String::new()),
        ]
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.sibling.kill().unwrap();
        self.sibling.wait().unwrap();
        drop(self.memory.stdin.take());
        self.memory.wait().unwrap();
    }
}

fn shared_memory() -> Child {
    let mut python = Command::new("python3");
    python.args(["-c", SHARED_MEMORY]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn answer(mut stream: impl Read + Write) {
    let mut head = [0; 1024];
    if stream.read(&mut head).is_ok_and(|length| length > 0) {
        // Whoever only connects doesn't wait for it.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap_or(());
    }
}

/// Says whether an attempt ended with an error that it reported, or was ended.
fn failed(code: Option<i32>, said: &str) -> bool {
    code == Some(REFUSED) || code == Some(137) && said.contains("the server is ended")
}

fn nothing_escapes(run: Run) {
    let yard = Yard::new();
    let mut attempts = [yard.attempts(), yard.attempts_at(run)].concat();
    if rustix::process::geteuid().is_root() {
        attempts.extend(yard.attempts_of_root());
    }
    for (what, arg) in attempts {
        let (code, said) = yard.run(run, what, &arg);
        assert!(failed(code, &said), "{what} {arg} got out: {code:?} {said}");
    }
    let (code, said) = yard.run(run, "see", &yard.sibling.id().to_string());
    let seen = if run == Run::Confined { REFUSED } else { 0 };
    assert_eq!(code, Some(seen), "another process: {said}");
    let (code, said) = yard.run(run, "read", "/usr/bin/env");
    assert_eq!(code, Some(0), "what every program may read: {said}");
    let (code, said) = yard.run(run, "write", yard.at("home/own").to_str().unwrap());
    assert_eq!(code, Some(0), "its own home: {said}");
}

#[test]
fn nothing_escapes_its_confinement() {
    nothing_escapes(Run::Confined);
}

#[test]
fn nothing_escapes_without_namespaces() {
    nothing_escapes(Run::WithoutNamespaces);
}

#[test]
fn without_confinement_every_attempt_succeeds() {
    let yard = Yard::new();
    let mut attempts = [yard.attempts(), yard.attempts_at(Run::Free)].concat();
    if rustix::process::geteuid().is_root() {
        attempts.extend(yard.attempts_of_root());
    }
    for (what, arg) in attempts {
        let (code, said) = yard.run(Run::Free, what, &arg);
        assert_eq!(code, Some(0), "{what} {arg}: {said}");
    }
}

#[test]
fn without_namespaces_nothing_starts_that_they_alone_would_keep() {
    let yard = Yard::new();
    let run = |hosts: serde_json::Value, what: &str| {
        let mut confined = confinement(&yard.at("home"), "off");
        confined["hosts"] = hosts;
        yard.run_as(&confined.to_string(), what, "")
    };
    assert_eq!(run(json!([]), "internet").0, Some(REFUSED), "Landlock knows ports and no addresses");
    assert_eq!(run(json!(["*"]), "internet").0, Some(0));
    let (code, said) = run(json!(["api.example.com", "*.example.com"]), "internet");
    assert_eq!(code, Some(126), "{said}");
    assert!(said.contains("its `hosts` can't be kept"), "{said}");
}

/// Is a machine in a cloud: its loopback has the address that hands out credentials. Starts a supervisor in it.
const CLOUD: &str = r#"
import ctypes, fcntl, http.server, os, socket, struct, subprocess, sys, threading
user, group = os.getuid(), os.getgid()
if ctypes.CDLL(None).unshare(0x50000000): sys.exit(99)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
    with open("/proc/self/" + name, "w") as file: file.write(text)
with socket.socket() as one:
    for name, address in (b"lo", "127.0.0.1"), (b"lo:1", "169.254.169.254"):
        fcntl.ioctl(one, 0x8916, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address)))
        fcntl.ioctl(one, 0x8914, struct.pack("16sH", name, 1))
class Credentials(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"secret")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("169.254.169.254", 80), Credentials)
threading.Thread(target=server.serve_forever, daemon=True).start()
program, confinement, script = sys.argv[1:4]
command = [program, "__child", "supervise", str(os.getpid()), confinement, "python3", "-c", script, "fetch", "http://169.254.169.254/"]
sys.exit(subprocess.run(command, env={**os.environ, "HOME": os.getcwd()}).returncode)
"#;

#[test]
fn not_even_a_grant_opens_the_address_of_cloud_credentials() {
    let home = tempfile::tempdir().unwrap();
    let fetch = |confinement: &str| {
        let mut cloud = Command::new("python3");
        cloud.args(["-c", CLOUD]).arg(child_program()).args([confinement, ATTEMPTS]).current_dir(home.path());
        cloud.env("PATH", PATH);
        cloud.output().unwrap()
    };
    let mut granted = confinement(home.path(), "preferred");
    for hosts in [json!(["*"]), json!(["169.254.169.254", "0.0.0.0/0"])] {
        granted["hosts"] = hosts;
        let output = fetch(&granted.to_string());
        assert_eq!(output.status.code(), Some(REFUSED), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("169.254.169.254:80"), "{output:?}");
    }
    assert_eq!(fetch("off").status.code(), Some(0), "without confinement it is reached");
}
