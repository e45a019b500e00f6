//! The decisions of an elector: values in, values out.
//!
//! Mirrors `tryAcquireOrRenew` and `release` of client-go, and the LeaderElectionRecord.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// What the Lease says of the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Who leads; empty if nobody does.
    pub(super) holder: String,
    /// How long after a change another may take over.
    pub(super) duration_seconds: i32,
    /// When the holder began to lead, by its clock.
    pub(super) acquired: Option<Timestamp>,
    /// When the holder renewed, by its clock.
    pub(super) renewed: Option<Timestamp>,
    /// How often the leader changed.
    pub(super) transitions: i32,
}

/// The two clocks: one for how long things take, one to be written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) monotonic: Duration,
    pub(super) wall: Timestamp,
}

/// What to do about a Lease that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// There is none: create it, with us as the leader.
    Create(Record),
    /// It is ours, or nobody's any more: write it, if it is still as it was read.
    Update(Record),
    /// Another leads.
    Wait,
}

/// What one elector knows.
#[derive(Clone, Debug)]
pub(super) struct Election {
    identity: String,
    duration_seconds: i32,
    /// The last record seen, and when it was first seen so.
    observed: Record,
    observed_at: Duration,
}

impl Election {
    pub(super) fn new(identity: &str, lease_duration: Duration) -> Self {
        Self {
            identity: identity.to_owned(),
            duration_seconds: i32::try_from(lease_duration.as_secs()).unwrap_or(i32::MAX),
            observed: Record::default(),
            observed_at: Duration::ZERO,
        }
    }

    /// Whether the last record seen names us.
    pub(super) fn is_leader(&self) -> bool {
        self.observed.holder == self.identity
    }

    /// What a leader may write without reading first.
    pub(super) fn renewal(&self, now: Now) -> Option<Record> {
        (self.is_leader() && self.is_valid(now)).then(|| self.ours(&self.observed, now))
    }

    /// What to do about the Lease as it was just read; `None` if there is none.
    pub(super) fn judge(&mut self, found: Option<Record>, now: Now) -> Judgement {
        let Some(found) = found else {
            return Judgement::Create(self.ours(&Record::default(), now).with_transitions(0));
        };
        if self.observed != found {
            self.wrote(found, now);
        }
        if !self.observed.holder.is_empty() && self.is_valid(now) && !self.is_leader() {
            return Judgement::Wait;
        }
        Judgement::Update(self.ours(&self.observed, now))
    }

    /// The record is what the Lease says now.
    pub(super) fn wrote(&mut self, record: Record, now: Now) {
        self.observed = record;
        self.observed_at = now.monotonic;
    }

    /// What to write so that the next may lead at once; `None` if another does already.
    pub(super) fn release(&self, found: &Record, now: Now) -> Option<Record> {
        (found.holder == self.identity).then(|| Record {
            holder: String::new(),
            duration_seconds: 1,
            acquired: Some(now.wall),
            renewed: Some(now.wall),
            transitions: found.transitions,
        })
    }

    fn is_valid(&self, now: Now) -> bool {
        let seconds = u64::try_from(self.observed.duration_seconds).unwrap_or(0);
        now.monotonic < self.observed_at + Duration::from_secs(seconds)
    }

    /// The record with us as the holder, after `before`.
    fn ours(&self, before: &Record, now: Now) -> Record {
        let again = before.holder == self.identity;
        Record {
            holder: self.identity.clone(),
            duration_seconds: self.duration_seconds,
            acquired: if again { before.acquired } else { Some(now.wall) },
            renewed: Some(now.wall),
            transitions: if again {
                before.transitions
            } else {
                before.transitions.saturating_add(1)
            },
        }
    }
}

impl Record {
    pub(super) fn read(spec: Option<&LeaseSpec>) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let time = |time: &Option<MicroTime>| time.as_ref().map(|time| time.0);
        Self {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
            acquired: time(&spec.acquire_time),
            renewed: time(&spec.renew_time),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    /// The record's fields; the others are not ours.
    pub(super) fn write(&self, spec: &mut LeaseSpec) {
        spec.holder_identity = Some(self.holder.clone()).filter(|holder| !holder.is_empty());
        spec.lease_duration_seconds = Some(self.duration_seconds);
        spec.acquire_time = self.acquired.map(MicroTime);
        spec.renew_time = self.renewed.map(MicroTime);
        spec.lease_transitions = Some(self.transitions);
    }

    pub(super) fn to_spec(&self) -> LeaseSpec {
        let mut spec = LeaseSpec::default();
        self.write(&mut spec);
        spec
    }

    fn with_transitions(self, transitions: i32) -> Self {
        Self { transitions, ..self }
    }
}
