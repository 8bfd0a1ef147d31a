//! One message on each line of standard input, one on each line of standard output.

use std::sync::Arc;

use bytes::Bytes;
use mcphub_wire::{Envelope, message};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Tools, answer};

/// Answers until standard input ends.
pub(super) async fn run(tools: Tools) -> std::io::Result<()> {
    let tools = Arc::new(tools);
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    let (tasks, writing) = (TaskTracker::new(), TaskTracker::new());
    let writer = writing.spawn(write(receiver));
    writing.close();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match Envelope::parse(&Bytes::from(line)) {
            Ok(Envelope::Request(request)) => {
                let (tools, sender) = (Arc::clone(&tools), sender.clone());
                tasks.spawn(async move { answer(&tools, request, &sender).await });
            }
            Ok(Envelope::Notification(_) | Envelope::Response(_)) => {}
            Err(error) => {
                let bytes = message::error(error.id.as_ref(), error.code(), &error.to_string(), None);
                sender.send(bytes).await.map_err(std::io::Error::other)?;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
    drop(sender);
    writer.await.map_err(std::io::Error::other)?
}

async fn write(mut receiver: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    let mut output = tokio::io::stdout();
    while let Some(bytes) = receiver.recv().await {
        output.write_all(&bytes).await?;
        output.write_all(b"\n").await?;
        output.flush().await?;
    }
    Ok(())
}
