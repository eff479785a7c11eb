//! What a node reads in one go, in few words.

use raft_core::wire::{self, Limits};
use raft_replica::machine::StateMachine;
use raft_replica::request::{Input, Request};
use raft_replica::storage::work::Done;

/// All of it if it is one thing, else what kinds of things.
pub(super) fn told<M: StateMachine>(inputs: &[Input<M>]) -> String {
    match inputs {
        [] => "nothing".to_owned(),
        [Input::Frame(frame)] => match wire::decode(frame.clone(), &Limits::default()) {
            Ok(envelope) => envelope.to_string(),
            Err(_) => kind(&inputs[0]),
        },
        _ => inputs.iter().map(kind).collect::<Vec<_>>().join(", "),
    }
}

fn kind<M: StateMachine>(input: &Input<M>) -> String {
    match input {
        Input::Tick => "its deadline".to_owned(),
        Input::Frame(frame) => match wire::decode(frame.clone(), &Limits::default()) {
            Ok(envelope) => format!("{} from {}", envelope.rpc.kind(), envelope.from),
            Err(_) => "a frame that is none".to_owned(),
        },
        Input::Unreachable(peer) => format!("no {peer}"),
        Input::Request { request, .. } => asked(request).to_owned(),
        Input::Done(done) => disk(done).to_owned(),
        Input::Campaign => "campaign".to_owned(),
        Input::StepDown => "step down".to_owned(),
        Input::ForgetLeader => "forget the leader".to_owned(),
        Input::DiskFull { is_full: true } => "disk full".to_owned(),
        Input::DiskFull { is_full: false } => "disk has room".to_owned(),
    }
}

fn asked<M: StateMachine>(request: &Request<M>) -> &'static str {
    match request {
        Request::OpenSession => "session",
        Request::Command { .. } => "command",
        Request::Query { .. } => "read",
        Request::ChangeMembership { .. } | Request::ForceMembership => "membership",
        Request::TransferLeadership { .. } => "transfer",
    }
}

fn disk(done: &Done) -> &'static str {
    match done {
        Done::Persisted { .. } => "persisted",
        Done::Failed => "disk failed",
        Done::Loaded { .. } => "loaded",
        Done::Damaged { .. } | Done::SnapshotDamaged { .. } => "damage",
        Done::SnapshotSaved { .. } => "snapshot saved",
        Done::SnapshotLoaded { .. } => "snapshot loaded",
        Done::ChunkRead { .. } | Done::ChunkStaged { .. } => "part of a snapshot",
    }
}

#[cfg(test)]
mod tests {
    use raft_core::Member;
    use raft_replica::kv::Kv;

    use super::*;

    #[test]
    fn what_a_node_reads_is_told_in_few_words() {
        assert_eq!(told::<Kv>(&[]), "nothing");
        let all = [
            Input::<Kv>::Tick,
            Input::Unreachable(Member::new(2, 7)),
            Input::Done(Done::Failed),
            Input::DiskFull { is_full: false },
        ];
        assert_eq!(told(&all), "its deadline, no n2, disk failed, disk has room");
        assert_eq!(told(&[Input::<Kv>::Frame(bytes::Bytes::new())]), "a frame that is none");
    }
}
