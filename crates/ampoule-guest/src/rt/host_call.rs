//! Calls from the guest to the host.

use ampoule_abi::codec::{self, EncodeError, Encoder, Sink};
use ampoule_abi::layout::{DESCRIBE_ARGUMENTS, FailureStatus, HostMessageKind};
use ampoule_abi::schema::{DataType, shown};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mailbox::{Mailbox, Outbound, Reply};
use super::record::{Imported, Record};
use crate::error::{HostError, HostErrorKind};
use crate::testing;

impl<const N: usize> Record<Imported, N> {
    /// Calls the import. `arguments` writes its arguments.
    ///
    /// # Panics
    ///
    /// Where the outbound area is in use by a value that calls the host while it is encoded, decoded or dropped; and
    /// outside a sandbox, where `testing` does not provide the function.
    #[track_caller]
    pub fn call<T: DeserializeOwned>(
        &'static self,
        name: &'static str,
        arguments: impl FnOnce(&mut Outgoing<'_, '_>) -> Result<(), EncodeError>,
    ) -> Result<T, HostError> {
        match Mailbox::current() {
            Some(mailbox) => {
                let Some(mut outbound) = mailbox.outbound() else {
                    panic!("host function `{name}` was called while a value was on its way between guest and host");
                };
                let shown = mailbox.is_described(DESCRIBE_ARGUMENTS).then(Vec::new);
                let (length, shown) = write(name, Destination::Mailbox(&mut outbound), shown, arguments)?;
                let described = shown.map_or(0, |values| outbound.describe(length, &values));
                read(name, &mailbox.host_call(self.number(), outbound, length, described))
            }
            None => {
                let mut payload = Vec::new();
                write(name, Destination::Memory(&mut payload), None, arguments)?;
                let Some(reply) = testing::call(name, &payload) else {
                    panic!(
                        "host function `{name}` was called outside a sandbox; a test provides it with \
                         `let _guard = ampoule_guest::testing::provide(\"{name}\", |..| ..);`"
                    );
                };
                decode(name, &reply?)
            }
        }
    }
}

/// The arguments of a host call, written from the first to the last.
#[derive(Debug)]
pub struct Outgoing<'a, 'm> {
    encoder: Encoder<Destination<'a, 'm>>,
    shown: Shown,
}

impl Outgoing<'_, '_> {
    /// Writes the next argument.
    pub fn put<T: Serialize + ?Sized>(&mut self, argument: &T) -> Result<(), EncodeError> {
        self.encoder.value(argument)?;
        // It has an encoding, so it is not nested without a bound.
        if let Some(values) = &mut self.shown {
            values.push(shown(argument));
        }
        Ok(())
    }
}

/// For each argument what it shows of its type, if the host asks for that.
type Shown = Option<Vec<Option<Vec<DataType>>>>;

/// Where arguments are written.
#[derive(Debug)]
enum Destination<'a, 'm> {
    Mailbox(&'a mut Outbound<'m>),
    Memory(&'a mut Vec<u8>),
}

impl Sink for Destination<'_, '_> {
    #[inline]
    fn capacity(&self) -> usize {
        match self {
            Self::Mailbox(outbound) => outbound.capacity(),
            Self::Memory(payload) => payload.capacity(),
        }
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        match self {
            Self::Mailbox(outbound) => outbound.put(at, bytes),
            Self::Memory(payload) => payload.put(at, bytes),
        }
    }
}

fn write<'a, 'm>(
    name: &'static str,
    destination: Destination<'a, 'm>,
    shown: Shown,
    arguments: impl FnOnce(&mut Outgoing<'a, 'm>) -> Result<(), EncodeError>,
) -> Result<(usize, Shown), HostError> {
    let mut outgoing = Outgoing { encoder: Encoder::new(destination), shown };
    let written = arguments(&mut outgoing).and_then(|()| Ok((outgoing.encoder.finish()?, outgoing.shown)));
    written.map_err(|error| match error {
        EncodeError::TooLarge { needed, capacity } => {
            HostError::too_large(name, "arguments", needed as u64, capacity as u64)
        }
        error => HostError::new(name, HostErrorKind::BadArguments, format!("the arguments have no encoding: {error}")),
    })
}

fn read<T: DeserializeOwned>(name: &'static str, reply: &Reply<'_>) -> Result<T, HostError> {
    let message = reply.message();
    match (HostMessageKind::from_u32(message.kind), FailureStatus::from_u32(message.status)) {
        (Some(HostMessageKind::Reply), _) => decode(name, reply.bytes()),
        (Some(HostMessageKind::Failure), Some(FailureStatus::TooLarge)) => {
            Err(HostError::too_large(name, "result", message.needed, reply.capacity() as u64))
        }
        (Some(HostMessageKind::Failure), Some(FailureStatus::BadArguments)) => {
            Err(HostError::new(name, HostErrorKind::BadArguments, text(reply.bytes())))
        }
        (Some(HostMessageKind::Failure), Some(FailureStatus::Failed)) => {
            Err(HostError::new(name, HostErrorKind::Failed, text(reply.bytes())).with_value(reply.error_value()))
        }
        _ => panic!("the host answered a call of `{name}` with a message of kind {}", message.kind),
    }
}

fn decode<T: DeserializeOwned>(name: &'static str, payload: &[u8]) -> Result<T, HostError> {
    codec::decode(payload).map_err(|error| {
        HostError::new(name, HostErrorKind::BadResult, format!("the result could not be decoded: {error}"))
    })
}

pub(super) fn text(payload: &[u8]) -> String {
    codec::decode(payload).unwrap_or_else(|error| format!("the message could not be decoded: {error}"))
}
