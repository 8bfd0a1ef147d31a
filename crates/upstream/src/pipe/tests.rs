//! How much may wait for a process, and what it may say.

use mcphub_domain::UserId;
use mcphub_wire::Limits;

use super::{
    Arc, Blame, Bytes, ConnectionKey, Course, Duration, MESSAGES, Outlets, Pipe, STRAYS, Shared,
    UpstreamError, mpsc, timeout,
};

/// Makes a pipe, and returns what goes to its process.
fn pipe() -> (Arc<Pipe>, mpsc::Receiver<Bytes>) {
    let (outlets, messages, _) = Outlets::new();
    let (blame, key) = (Blame("s".parse().unwrap()), ConnectionKey::of(UserId::from_bytes([1; 16])));
    (Pipe::new(blame, Shared::alone(), key, outlets), messages)
}

#[tokio::test(start_paused = true)]
async fn so_many_messages_wait_for_a_process_and_the_next_call_waits() {
    let (pipe, mut messages) = pipe();
    let send = || timeout(Duration::from_secs(1), pipe.send(Bytes::from_static(b"{}")));
    for number in 0..MESSAGES {
        assert_eq!(send().await, Ok(Ok(())), "{number}");
    }
    assert!(send().await.is_err(), "there is no room");
    messages.recv().await.unwrap();
    assert_eq!(send().await, Ok(Ok(())), "there is room again");
}

#[tokio::test]
async fn so_many_lines_in_a_row_may_be_no_messages() {
    let read = async |lines: String| pipe().0.read_lines(lines.as_bytes()).await;
    let (strays, message) = ("chatter\n".repeat(STRAYS), r#"{"jsonrpc":"2.0","method":"x"}"#);
    assert_eq!(read(strays.clone()).await, Ok(()));
    assert_eq!(read(format!("{strays}{message}\n{strays}")).await, Ok(()));
    let error = read(strays + "chatter\n").await.unwrap_err();
    assert!(matches!(error, UpstreamError::Garbage { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_has_so_many_keys_and_no_more() {
    let answered = async |keys: usize| {
        let (pipe, _messages) = pipe();
        let mut reply = pipe.register(7, Course::default()).unwrap();
        // The envelope has three and the result one.
        let objects = vec![r#"{"a":0}"#; keys - 4].join(",");
        pipe.message(format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"x":[{objects}]}}}}"#).into());
        reply.response().await
    };
    assert!(answered(Limits::RESPONSE.keys).await.is_ok());
    let error = answered(Limits::RESPONSE.keys + 1).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Garbage { .. }), "{error}");
}
