//! What a confined child reaches through its supervisor's proxy, on a machine whose network the test makes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{child_program, confinement};

/// Is a machine with a public address of its own, where a service listens that a firewall outside would
/// guard. Two names lead to it. Starts a supervisor in it, whose child asks for a URL.
const MACHINE: &str = r#"
import ctypes, fcntl, http.server, os, socket, struct, subprocess, sys, threading
user, group = os.getuid(), os.getgid()
libc = ctypes.CDLL(None)
if libc.unshare(0x50020000): sys.exit(99)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
    with open("/proc/self/" + name, "w") as file: file.write(text)
with socket.socket() as one:
    for name, address in (b"lo", "127.0.0.1"), (b"lo:1", "45.33.32.1"):
        fcntl.ioctl(one, 0x8916, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address)))
        fcntl.ioctl(one, 0x8914, struct.pack("16sH", name, 1))
program, confinement, hosts, url = sys.argv[1:5]
if libc.mount(hosts.encode(), b"/etc/hosts", None, 0x1000, None): sys.exit(98)
asked = []
class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self): asked.append(self.path); self.send_response(200); self.end_headers(); self.wfile.write(b"inside")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("0.0.0.0", 5432), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
command = [program, "__child", "supervise", str(os.getpid()), confinement, "python3", "-c", sys.argv[5], url]
code = subprocess.run(command, env={**os.environ, "HOME": os.getcwd()}).returncode
sys.exit(97 if code != 0 and asked else code)
"#;

/// Asks for a URL in full and through a tunnel; says how many of them failed.
const FETCH: &str = r#"
import http.client, os, sys, urllib.parse, urllib.request
url, proxy = (urllib.parse.urlsplit(text) for text in (sys.argv[1], os.environ["http_proxy"]))
def full(): urllib.request.urlopen(sys.argv[1], timeout=5).read()
def tunnel():
    one = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=5)
    one.set_tunnel(url.hostname, url.port); one.request("GET", "/"); one.getresponse().read()
def fails(fetch):
    try: fetch()
    except OSError as error: print(error); return True
sys.exit(sum(bool(fails(fetch)) for fetch in (full, tunnel)))
"#;

/// Fetches a URL on that machine with these hosts.
fn fetch(hosts: &Value, url: &str) -> Output {
    let home = TempDir::new().unwrap();
    let names = home.path().join("names");
    let lines = "127.0.0.1 localhost inside.example\n45.33.32.1 own.example\n";
    std::fs::write(&names, lines).unwrap();
    let mut granted = confinement(home.path(), "preferred");
    granted["hosts"] = hosts.clone();
    let mut machine = Command::new("python3");
    machine
        .args(["-c", MACHINE])
        .arg(child_program())
        .arg(granted.to_string())
        .arg(&names)
        .args([url, FETCH]);
    machine.env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(home.path()).output().unwrap()
}

#[test]
fn a_machine_is_reached_by_its_own_addresses_only_where_they_are_listed() {
    let table = [
        (json!(["*"]), "45.33.32.1", false),
        (json!(["*"]), "own.example", false),
        (json!(["own.example"]), "own.example", false),
        (json!(["*.example"]), "inside.example", false),
        (json!(["inside.example", "localhost"]), "inside.example", false),
        (json!(["45.33.32.1"]), "45.33.32.1", true),
        (json!(["own.example", "45.33.32.0/24:5432"]), "own.example", true),
        (json!(["inside.example", "127.0.0.1"]), "inside.example", true),
        (json!(["localhost"]), "localhost", true),
    ];
    for (hosts, host, expected) in table {
        let output = fetch(&hosts, &format!("http://{host}:5432/"));
        let failed = if expected { 0 } else { 2 };
        assert_eq!(output.status.code(), Some(failed), "{hosts} {host}: {output:?}");
    }
}

/// Opens more connections to the proxy than its supervisor has descriptors for, closes them, and asks for a URL.
const CROWD: &str = r#"
import os, socket, sys, time, urllib.parse, urllib.request
proxy = urllib.parse.urlsplit(os.environ["http_proxy"])
crowd = [socket.create_connection((proxy.hostname, proxy.port)) for _ in range(60)]
time.sleep(1)
for one in crowd: one.close()
urllib.request.urlopen(sys.argv[1], timeout=10).read()
"#;

#[test]
fn a_connection_that_can_t_be_taken_ends_nothing() {
    let home = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let length = stream.read(&mut [0; 1024]).unwrap();
            assert_ne!(length, 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    let mut granted = confinement(home.path(), "preferred");
    granted["hosts"] = json!(["127.0.0.1"]);
    let mut supervisor = Command::new("sh");
    supervisor.args(["-c", r#"ulimit -Sn 30 && exec "$0" "$@""#]).arg(child_program());
    supervisor.args(["__child", "supervise", &std::process::id().to_string(), &granted.to_string()]);
    supervisor.args(["python3", "-c", CROWD, &url]).env("HOME", home.path()).current_dir(home.path());
    let output = supervisor.env("PATH", "/usr/local/bin:/usr/bin:/bin").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the server's connections wait"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Asks a supervisor with these words for a URL, and tells whether the proxy in its environment was asked.
fn is_led_through(via: &[&str]) -> bool {
    let home = TempDir::new().unwrap();
    let beyond = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = beyond.local_addr().unwrap();
    let fetch = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)";
    let mut supervisor = Command::new(child_program());
    supervisor.args(["__child", "supervise", &std::process::id().to_string()]).args(via);
    supervisor.arg(confinement(home.path(), "preferred").to_string());
    supervisor.args(["python3", "-c", fetch, "http://a.invalid/"]);
    supervisor
        .env("HOME", home.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HTTPS_PROXY", format!("http://{address}"));
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = beyond.accept().unwrap();
        let is_request = stream.read(&mut [0; 1024]).unwrap() > 0;
        // Whoever only wakes it is gone already.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap_or(());
        is_request
    });
    supervisor.current_dir(home.path()).output().unwrap();
    // Wakes the thread if nobody came; an empty connection is no request.
    drop(std::net::TcpStream::connect(address));
    asked.join().unwrap()
}

#[test]
fn only_the_hub_s_word_makes_a_proxy_the_one_beyond() {
    assert!(is_led_through(&["via", "https_proxy,HTTPS_PROXY"]));
    assert!(!is_led_through(&["via", "https_proxy"]));
    assert!(!is_led_through(&[]));
}
