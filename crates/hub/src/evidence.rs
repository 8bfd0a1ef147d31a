//! What leaves the hub as evidence: bundles that anybody can check without it, as `docs/audit-format.md`
//! says. A bundle is written piece by piece; none is held whole.

use std::collections::VecDeque;
use std::sync::Arc;

use mcphub_domain::{ChainId, Event, InstallId};
use mcphub_policy::Administration;
use mcphub_store::audit::{Extract, Piece, Proof, Span};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::seal::Unsealed;

/// Is a bundle that is being written.
pub struct Bundle {
    unsealed: Arc<Unsealed>,
    digest: Sha256,
    ready: VecDeque<Vec<u8>>,
    stage: Stage,
    counts: Counts,
}

/// Says what comes next.
enum Stage {
    Segments(Box<Extract>),
    Seal,
    Ended,
}

/// Counts what has been written.
#[derive(Default)]
struct Counts {
    chains: u64,
    segments: u64,
    records: u64,
    last: Option<ChainId>,
}

/// Is the key that heads and bundles are signed with, as people compare it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningKey {
    /// The installation that it belongs to.
    pub install: InstallId,
    /// The public key: `ed25519:` and 64 digits.
    pub key: String,
    /// Its fingerprint: `sha256:` and 64 digits.
    pub fingerprint: String,
}

impl Hub {
    /// Gives out the log, or a span of it, as a bundle.
    pub async fn export_audit(&self, caller: &Caller, span: Span) -> Result<Bundle, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.export").await?;
        let unsealed = self.seal.open()?;
        self.check_signer().await?;
        self.record_export(caller, span).await?;
        let heads = self.heads.text(&self.store).await?;
        let heads: Vec<&str> = crate::heads::whole_lines(&heads).collect();
        let extract = self.store.extract(span).await?;
        let mut first = self.first_line(&unsealed, "export", heads.len());
        if let Value::Object(first) = &mut first {
            first.extend(span.from.map(|from| ("from".to_owned(), json!(from))));
            first.extend(span.to.map(|to| ("to".to_owned(), json!(to))));
        }
        let mut bundle = Bundle::new(unsealed, Stage::Segments(Box::new(extract)));
        bundle.write(&first)?;
        heads.iter().for_each(|head| bundle.line(head.as_bytes()));
        Ok(bundle)
    }

    /// Proves that a record is in the log, by a signed head that covers it.
    pub async fn prove_record(
        &self,
        caller: &Caller,
        (chain, number): (ChainId, u64),
    ) -> Result<Bundle, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.prove").await?;
        let unsealed = self.seal.open()?;
        self.check_signer().await?;
        let text = self.heads.text(&self.store).await?;
        let (witnesses, _) = self.heads.read(&self.store, &[]).await?.into_witnesses();
        let Some(proof) = self.store.prove((chain, number), &witnesses).await? else {
            return Err(HubError::Conflict(format!(
                "no signed head covers record {number} of chain {chain} yet: a running hub signs one each second"
            )));
        };
        let head = crate::heads::line_of(&text, proof.head)
            .ok_or_else(|| HubError::Internal(format!("head {} is gone", proof.head)))?;
        let read = Event::Read {
            method: "audit.prove".to_owned(),
            target: Some(format!("{chain}.{number}")),
            items: 1,
        };
        self.record_durable(caller, read).await?;
        let mut first = self.first_line(&unsealed, "proof", 1);
        if let Value::Object(first) = &mut first {
            first.insert("steps".to_owned(), json!(proof.steps.len()));
        }
        let mut bundle = Bundle::new(unsealed, Stage::Seal);
        bundle.write(&first)?;
        bundle.line(head.as_bytes());
        bundle.steps(&proof)?;
        Ok(bundle)
    }

    /// Finds the chain whose id begins like this.
    pub async fn chain_like(&self, caller: &Caller, beginning: &str) -> Result<ChainId, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.prove").await?;
        match self.store.chains_like(beginning).await?[..] {
            [chain] => Ok(chain),
            [] => Err(HubError::NotFound { what: format!("chain {beginning}") }),
            _ => {
                Err(HubError::Invalid(format!("several chains begin with {beginning}: give more of the id")))
            }
        }
    }

    /// Shows the key that heads and bundles are signed with, for people to compare.
    pub async fn signing_key(&self, caller: &Caller) -> Result<SigningKey, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.key").await?;
        self.check_signer().await?;
        let public = self.store.signer().await?.ok_or(HubError::Sealed)?;
        self.record_read(caller, "audit.key", None, 1).await;
        Ok(SigningKey {
            install: self.heads.install(),
            key: format!("ed25519:{}", hex::encode(public)),
            fingerprint: format!("sha256:{}", hex::encode(Sha256::digest(public))),
        })
    }

    fn first_line(&self, unsealed: &Unsealed, kind: &str, heads: usize) -> Value {
        json!({
            "bundle": "mcphub-audit",
            "heads": heads,
            "install": self.heads.install(),
            "key": hex::encode(unsealed.signer.public()),
            "kind": kind,
            "v": 1,
        })
    }

    async fn record_export(&self, caller: &Caller, span: Span) -> Result<(), HubError> {
        let time = |at: Option<mcphub_domain::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        let target = Some(format!("{}/{}", time(span.from), time(span.to)));
        let read = Event::Read { method: "audit.export".to_owned(), target, items: 0 };
        self.record_durable(caller, read).await
    }
}

impl Bundle {
    fn new(unsealed: Arc<Unsealed>, stage: Stage) -> Self {
        let (digest, ready) = (Sha256::new(), VecDeque::new());
        Self { unsealed, digest, ready, stage, counts: Counts::default() }
    }

    /// Returns the next piece of the bundle; nothing after its end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, HubError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            match &mut self.stage {
                Stage::Segments(extract) => {
                    let page = extract.page().await?;
                    if page.is_empty() {
                        self.totals()?;
                    }
                    for piece in page {
                        self.segment(piece)?;
                    }
                }
                Stage::Seal => self.seal()?,
                Stage::Ended => return Ok(None),
            }
        }
    }

    /// Tells how many records there are in what has been written so far, shown or not.
    pub const fn records(&self) -> u64 {
        self.counts.records
    }

    fn segment(&mut self, piece: Piece) -> Result<(), HubError> {
        let counts = &mut self.counts;
        counts.chains += u64::from(counts.last.replace(piece.chain) != Some(piece.chain));
        counts.segments += 1;
        counts.records += piece.count;
        let records = piece.records.as_ref();
        self.write(&json!({
            "at": piece.at,
            "chain": piece.chain,
            "count": piece.count,
            "first": piece.first,
            "hash": hex::encode(piece.hash),
            "leaves": hex::encode(&piece.leaves),
            "lines": records.map_or(0, Vec::len),
            "previous": hex::encode(piece.previous),
            "root": hex::encode(piece.root),
            "shown": records.is_some(),
        }))?;
        piece.records.into_iter().flatten().for_each(|record| self.line(&record));
        Ok(())
    }

    fn steps(&mut self, proof: &Proof) -> Result<(), HubError> {
        self.counts.records = proof.steps.len() as u64;
        for step in &proof.steps {
            self.write(&json!({
                "chain": step.end.chain,
                "number": step.number,
                "path": step.path.iter().map(hex::encode).collect::<Vec<_>>(),
                "root": step.end.root,
                "size": step.end.size,
            }))?;
            self.line(&step.record);
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<(), HubError> {
        let Counts { chains, segments, records, .. } = self.counts;
        self.write(&json!({ "chains": chains, "end": true, "records": records, "segments": segments }))?;
        self.stage = Stage::Seal;
        Ok(())
    }

    fn seal(&mut self) -> Result<(), HubError> {
        let digest = std::mem::take(&mut self.digest).finalize();
        let message = [b"mcphub/bundle/v1\0".as_slice(), &digest].concat();
        self.write(&json!({ "seal": hex::encode(self.unsealed.signer.sign(&message)) }))?;
        self.stage = Stage::Ended;
        Ok(())
    }

    fn write(&mut self, line: &Value) -> Result<(), HubError> {
        let line = serde_json_canonicalizer::to_vec(line);
        self.line(&line.map_err(|error| HubError::Internal(format!("a bundle: {error}")))?);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        let line = [line, b"\n"].concat();
        self.digest.update(&line);
        self.ready.push_back(line);
    }
}
