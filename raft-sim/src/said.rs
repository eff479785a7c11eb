//! What is said to a server as it stands, or as one would say it who has another version.
//!
//! An entry that this version does not know must do nothing, on every server alike, and one that is too
//! large must not get into the log. A client of the same build says neither, so both are made here: the
//! command with something behind it, of which this version knows nothing.

use raft_replica::session::LogCommand;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::options::COMMAND_BYTES_MAX;

/// A command as it is sent to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<C> {
    /// As it is.
    Plain(C),
    /// With one byte more: not a command of this version.
    Newer(C),
    /// With so much behind it that no server admits it.
    Swollen(C),
}

impl<C> Said<C> {
    /// The command in it.
    pub fn into_command(self) -> C {
        match self {
            Self::Plain(command) | Self::Newer(command) | Self::Swollen(command) => command,
        }
    }
}

impl<C: Serialize> Serialize for Said<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(command) => command.serialize(serializer),
            Self::Newer(command) => (command, 0_u8).serialize(serializer),
            Self::Swollen(command) => {
                (command, vec![0_u8; COMMAND_BYTES_MAX]).serialize(serializer)
            }
        }
    }
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Said<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        C::deserialize(deserializer).map(Self::Plain)
    }
}

/// What an entry says, be it as somebody of another version says it: whose it is, the servers need not know.
pub(crate) fn understood<C: DeserializeOwned>(entry: &[u8]) -> Option<LogCommand<C>> {
    let (_, plain) = entry.split_last()?;
    LogCommand::decode(entry).or_else(|_| LogCommand::decode(plain)).ok()
}

#[cfg(test)]
mod tests {
    use raft_replica::session::SessionId;

    use super::*;

    #[test]
    fn what_is_said_plainly_is_understood_and_nothing_else() {
        let entry =
            |command| LogCommand::Apply { session: SessionId(1), serial: 2, command }.encode();
        let read = |bytes: &[u8]| LogCommand::<Said<u64>>::decode(bytes);
        let plain = entry(Said::Plain(3_u64));
        assert_eq!(
            plain,
            LogCommand::Apply { session: SessionId(1), serial: 2, command: 3_u64 }.encode()
        );
        assert!(read(&plain).is_ok());
        assert!(read(&entry(Said::Newer(3))).is_err());
        assert!(read(&entry(Said::Swollen(3))).is_err());
        assert!(entry(Said::Swollen(3)).len() > COMMAND_BYTES_MAX);
        assert!(understood::<u64>(&entry(Said::Newer(3))).is_some());
        assert!(understood::<u64>(&entry(Said::Swollen(3))).is_none());
    }
}
