//! Real peers: clients and servers made of the official SDKs.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::{NamedTempFile, TempPath};

use super::witness::{self, Witness};
use super::{eventually, tool};

/// Is a server beside the hub; ended with the test. What it received has to have been valid.
pub(crate) struct Peer {
    child: Child,
    pub(crate) url: String,
    received: Option<PathBuf>,
    _aside: Option<TempPath>,
}

impl Peer {
    /// Starts a server that prints where it listens, and writes down all that it receives: where a test wants to
    /// see it, or aside.
    pub(crate) fn listening(command: &mut Command, record: Option<&Path>) -> Self {
        let aside = NamedTempFile::new().unwrap().into_temp_path();
        let received = record.unwrap_or(&aside).to_owned();
        command.arg("--record").arg(&received);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening ").expect("the server says where it listens");
        Self {
            url: format!("http://127.0.0.1:{port}/mcp"),
            child,
            received: Some(received),
            _aside: Some(aside),
        }
    }
}

impl Peer {
    /// Is where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let host = self.url.trim_start_matches("http://").split('/').next().unwrap();
        host.parse().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().expect("the peer can be ended");
        self.child.wait().expect("the peer has ended");
        let received = self.received.take().map(std::fs::read_to_string);
        if let (Some(Ok(lines)), false) = (received, std::thread::panicking()) {
            let requests: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            witness::received(&requests);
        }
    }
}

/// Names one of the project's peer programs.
pub(crate) fn program(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../peers/python").join(name);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Runs a script of actions with a client and returns the answer to each. All that a hub says to it has to be valid.
pub(crate) fn client(python: &str, options: &[String], script: &Value) -> Vec<Value> {
    let record = NamedTempFile::new().unwrap();
    let mut child = Command::new(tool(python))
        .arg(program("client.py"))
        .arg("--record")
        .arg(record.path())
        .args(options)
        .args(["script", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{options:?}: {text} {error}");
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exchanges = std::fs::read_to_string(record.path()).unwrap();
    let exchanges = exchanges.lines().map(|line| serde_json::from_str(line).unwrap());
    exchanges.for_each(|exchange: Value| Witness::of_exchange(&exchange));
    answers.into_iter().filter(|answer| answer.get("steps").is_none()).collect()
}

/// Is the server that shows which credential reached it.
pub(crate) struct CredentialServer;

impl CredentialServer {
    /// Starts it over HTTP; `record` takes everything that it receives.
    pub(crate) fn start(python: &str, record: Option<&Path>) -> Peer {
        let mut command = Command::new(tool(python));
        command.arg(program("credential_server.py")).args(["--http", "0", "--json"]);
        Peer::listening(&mut command, record)
    }
}

/// Starts the server that lets each person in by an account of her own, for tokens of a lifetime in seconds. It gives none
/// while there is a file.
pub(crate) fn oauth(lifetime: u32, outage: &Path) -> Peer {
    let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
    command.arg(program("oauth_server.py")).args(["--http", "0", "--lifetime", &lifetime.to_string()]);
    Peer::listening(command.arg("--outage").arg(outage), None)
}

/// Starts it as a server of 2025-03-26, which lets people in itself and says nowhere who does.
pub(crate) fn oauth_of_2025_03_26() -> Peer {
    let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
    command.arg(program("oauth_server.py")).args(["--http", "0", "--itself"]);
    Peer::listening(&mut command, None)
}

/// Starts the server that asks back and tells what changes: modern under SDK 2.3, legacy under SDK 1.30.
pub(crate) fn asking(python: &str) -> Peer {
    let mut command = Command::new(tool(python));
    Peer::listening(command.arg(program("asking_server.py")).args(["--http", "0"]), None)
}

/// Starts the legacy server that asks back over HTTP as 2024-11-05 has it.
pub(crate) fn asking_on_events() -> Peer {
    let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_1"));
    let mut peer = Peer::listening(command.arg(program("asking_server.py")).args(["--events", "0"]), None);
    peer.url = peer.url.replace("/mcp", "/sse");
    peer
}

/// Starts `server-everything` over Streamable HTTP.
pub(crate) fn everything() -> Peer {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(tool("MCPHUB_TEST_NODE"))
        .arg(tool("MCPHUB_TEST_EVERYTHING"))
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Peer { child, url: format!("http://127.0.0.1:{port}/mcp"), received: None, _aside: None };
    eventually("server-everything listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    peer
}
