//! What is left of a loss once a start has seen it: the doubt lasts, and ends, and the loss is not
//! noticed a second time.

use raft_core::{HardState, Index};
use raft_replica::storage::inspect;

use crate::evidence::after;
use crate::model::{Durable, Script};
use crate::verdict::{FIRST_BATCH, open};

/// The hard state knew that more was committed than is left: while the doubt lasts, starts find nothing
/// new to say; when it is ended, by the log's having come back or by force, it is over.
#[test]
fn a_doubt_that_has_ended_is_not_raised_again() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10]).sync().append(&[20]).sync().append(&[30]).sync();
    script.commit(2).term(2, None).sync().commit(3).term(3, Some(1)).sync();
    for rewritten in [0, 1, 5] {
        let disk = after(&script);
        let length = disk.bytes("wal/seg-1-1.wal").unwrap().len();
        for (from, to) in [(8192 + 64, FIRST_BATCH), (FIRST_BATCH + 4096, length)] {
            disk.overwrite("wal/seg-1-1.wal", from, &vec![0; to - from]);
        }
        let known = inspect(&mut disk.clone()).unwrap();
        assert_eq!((known.commit, known.last.index), (Index(2), Index(1)));

        let (mut storage, found) = open(&disk).unwrap();
        let in_doubt = Durable::found(&mut storage, &found);
        assert!(in_doubt.hard_state.is_tail_unknown && in_doubt.log.len() == 1);
        let (mut storage, again) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &again), in_doubt, "the doubt lasts");
        assert!(again.report.is_clean(), "nothing more is lost: {}", again.report);

        let mut end = Script::new(in_doubt.clone());
        for _ in 0..rewritten {
            end.append(&[40]).sync();
        }
        let hard_state = HardState { is_tail_unknown: false, ..in_doubt.hard_state };
        end.persist(|batch| batch.hard_state = Some(hard_state)).sync();
        end.run(&mut storage).unwrap();
        for _ in 0..2 {
            let (mut storage, found) = open(&disk).unwrap();
            assert_eq!(Durable::found(&mut storage, &found), *end.now(), "{}", found.report);
            assert!(found.report.is_clean(), "{rewritten}: {}", found.report);
        }
    }
}
