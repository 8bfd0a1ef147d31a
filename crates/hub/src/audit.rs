//! The log as people use it: search it, verify it, and what every use case needs to write it.

use std::collections::BTreeMap;

use mcphub_domain::audit::{Entry, PersonalFields, Refusal};
use mcphub_domain::{Event, Record, Timestamp, User, UserId};
use mcphub_policy::{AdminPermit, Administration, decide};
use mcphub_store::WriteTx;
use mcphub_store::audit::queue::Health;
use mcphub_store::audit::{Report, Search};

use crate::caller::Caller;
use crate::error::HubError;
use crate::heads::HeadsCopy;
use crate::hub::Hub;
use crate::personal::{Reader, Unreadable, fields_of};

/// Is a record with the personal fields that could be read.
#[derive(Debug)]
pub struct ReadRecord {
    /// The record as it stands in the log.
    pub record: Record,
    /// What names people in it, decrypted.
    pub personal: BTreeMap<UserId, PersonalFields>,
    /// Of whom it names something that isn't what was written: `verify` says whether the record is.
    pub unreadable: Vec<UserId>,
}

/// Is what a check of the log found, and by how many heads.
#[derive(Debug)]
pub struct Verified {
    /// What is wrong, and how much was read.
    pub report: Report,
    /// How many signed heads the log was compared with.
    pub heads: u64,
    /// The number and the time of the newest head in the installation's own file.
    pub newest: Option<(u64, Timestamp)>,
}

/// Is an administrative permit with everything that its record needs.
pub(crate) struct Granted {
    permit: AdminPermit,
    caller: Caller,
    personal: BTreeMap<UserId, String>,
}

impl Hub {
    /// Finds records, the newest first, and reads their personal fields.
    pub async fn search_audit(&self, caller: &Caller, search: &Search) -> Result<Vec<ReadRecord>, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.search").await?;
        self.audit.settle().await;
        let records = self.store.search(search).await?;
        self.record_read(caller, "audit.search", None, records.len()).await;
        let unsealed = self.seal.open().ok();
        let mut reader = unsealed.as_ref().map(|unsealed| self.personal.reader(&unsealed.vault));
        let mut read = Vec::with_capacity(records.len());
        for record in records {
            read.push(ReadRecord::of(record, reader.as_mut()).await?);
        }
        Ok(read)
    }

    /// Checks the whole log against itself, the signed heads, and copies of heads from elsewhere.
    pub async fn verify_audit(&self, caller: &Caller, copies: &[HeadsCopy]) -> Result<Verified, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.verify").await?;
        self.check_signer().await?;
        let reading = self.heads.read(&self.store, copies).await?;
        let (heads, newest) = (reading.heads(), reading.newest);
        let (witnesses, of_heads) = reading.into_witnesses();
        let mut report = self.store.verify(witnesses).await?;
        report.findings.extend(of_heads);
        self.record_read(caller, "audit.verify", None, report.findings.len()).await;
        Ok(Verified { report, heads, newest })
    }

    /// Makes the search index anew from the log.
    pub async fn reindex_audit(&self, caller: &Caller) -> Result<u64, HubError> {
        self.administrate(caller, Administration::ReadAudit, "audit.reindex").await?;
        let chains = self.store.reindex_audit().await?;
        self.record_read(caller, "audit.reindex", None, chains as usize).await;
        Ok(chains)
    }

    /// Refuses heads by another signer than the vault's.
    pub(crate) async fn check_signer(&self) -> Result<(), HubError> {
        if let (Ok(unsealed), Some(stored)) = (self.seal.open(), self.store.signer().await?)
            && unsealed.signer.public() != stored
        {
            let text = "the database names another signer of heads than the vault: somebody replaced it";
            return Err(HubError::Invalid(text.to_owned()));
        }
        Ok(())
    }

    /// Decides an administrative action; a denial is recorded.
    pub(crate) async fn administrate(
        &self,
        caller: &Caller,
        action: Administration,
        method: &str,
    ) -> Result<Granted, HubError> {
        self.take_in(caller, method).await?;
        let world = self.snapshot.fresh()?;
        match decide::administration(&world, caller.principal, action, self.clock.now()) {
            Ok(permit) => self.granted(permit, caller).await,
            Err(denial) => {
                self.record(caller, denial.clone().into_event(method)).await;
                Err(denial.into())
            }
        }
    }

    /// Puts what a permit's record will need beside it, before any transaction begins.
    pub(crate) async fn granted(&self, permit: AdminPermit, caller: &Caller) -> Result<Granted, HubError> {
        let personal = self.seal_personal(caller.principal.user(), caller.personal_fields()).await?;
        Ok(Granted { permit, caller: caller.clone(), personal })
    }

    /// Takes a request in: not while the log can't be written, reads included, and not more of them
    /// than a person may make.
    pub(crate) async fn take_in(&self, caller: &Caller, method: &str) -> Result<(), HubError> {
        if let Health::Failing { reason, .. } = &*self.audit.health().borrow() {
            return Err(HubError::Unavailable { reason: reason.clone() });
        }
        let Some(user) = caller.principal.user() else { return Ok(()) };
        let Err(after) = self.limits.charge_request(user, self.clock.now()) else { return Ok(()) };
        let denial = decide::refuse(caller.principal, Refusal::RateLimited, None);
        Box::pin(self.floods.note_known(self, caller, denial, method)).await;
        Err(HubError::RateLimited { after })
    }

    /// Begins a change of what is a person's own.
    pub(crate) async fn write_for(&self, owner: UserId) -> Result<WriteTx, HubError> {
        let mut tx = self.store.write().await?;
        tx.act_for(owner).await?;
        Ok(tx)
    }

    /// Commits a change with its record, and takes the change up.
    pub(crate) async fn commit(&self, tx: WriteTx, granted: Granted, event: Event) -> Result<(), HubError> {
        let Granted { permit, caller, personal } = granted;
        tx.commit(permit.entry(event, caller.request, personal)).await?;
        caller.note_record();
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "a change is committed, but could not be taken up yet");
        }
        Ok(())
    }

    /// Encrypts how a person is called under her own key: with the record that adds her, the log's
    /// only link from her pseudonym to her name.
    pub(crate) async fn name(&self, granted: &mut Granted, user: &User) -> Result<(), HubError> {
        granted.personal.extend(self.seal_personal(Some(user.id), fields_of(user)).await?);
        Ok(())
    }

    /// Records something and waits until it is durable, for what must not happen without.
    pub(crate) async fn record_durable(&self, caller: &Caller, event: Event) -> Result<(), HubError> {
        let mut entry = caller.entry(event, self.clock.now());
        entry.personal = self.seal_personal(caller.principal.user(), caller.personal_fields()).await?;
        self.audit.durable(entry).await?;
        caller.note_record();
        Ok(())
    }

    /// Records something after the fact; nobody waits until it is durable.
    pub(crate) async fn record(&self, caller: &Caller, event: Event) {
        let mut entry = caller.entry(event, self.clock.now());
        match self.seal_personal(caller.principal.user(), caller.personal_fields()).await {
            Ok(personal) => entry.personal = personal,
            Err(error) => tracing::warn!(%error, "a record goes without its personal fields"),
        }
        self.append(entry).await;
        caller.note_record();
    }

    pub(crate) async fn append(&self, entry: Entry) {
        if let Event::Refused { reason, .. } = &entry.event {
            self.counters.refused(*reason);
        }
        if let Err(error) = self.audit.append(entry).await {
            tracing::error!(%error, "a record could not be queued");
        }
    }

    async fn seal_personal(
        &self,
        person: Option<UserId>,
        fields: PersonalFields,
    ) -> Result<BTreeMap<UserId, String>, HubError> {
        match person {
            Some(person) => self.personal.seal(&self.seal.open()?.vault, person, fields).await,
            None => Ok(BTreeMap::new()),
        }
    }
}

impl ReadRecord {
    /// Reads what names people in a record, as far as it can be read; a sealed hub reads nothing.
    async fn of(record: Record, reader: Option<&mut Reader<'_>>) -> Result<Self, HubError> {
        let mut read = Self { record, personal: BTreeMap::new(), unreadable: Vec::new() };
        let Some(reader) = reader else { return Ok(read) };
        for (person, text) in &read.record.entry.personal {
            match reader.open(*person, text).await? {
                Ok(fields) => {
                    read.personal.insert(*person, fields);
                }
                Err(Unreadable) => read.unreadable.push(*person),
            }
        }
        Ok(read)
    }
}
