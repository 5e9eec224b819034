//! What the command line answers in the place of host functions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ampoule::dynamic::{HostCall, Value};
use ampoule::{Builder, Image};
use ampoule_abi::text::printable_name;
use serde::de::IgnoredAny;

use crate::failure::Failure;

/// Answers with constants.
#[derive(Debug, Default)]
pub(crate) struct HostFunctions {
    /// The first answer that was not of the type that the guest expects.
    refused: Arc<Mutex<Option<String>>>,
}

/// What a host function answers.
type Answer = Box<dyn FnMut(&HostCall) -> Result<Value, String> + Send>;

impl HostFunctions {
    /// A function for each answer, by its name, if these are the functions that the image imports.
    pub(crate) fn answers(
        &self,
        image: &Image,
        answers: &[(String, String)],
    ) -> Result<Vec<(String, Answer)>, Failure> {
        check(image, answers)?;
        let function = |(name, answer): &(String, String)| {
            let (refused, answer) = (Arc::clone(&self.refused), answer.clone());
            let function = move |call: &HostCall| {
                call.answer(&mut serde_json::Deserializer::from_str(&answer)).map_err(|error| {
                    let text = error.to_string();
                    refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text).clone()
                })
            };
            (name.clone(), Box::new(function) as Answer)
        };
        Ok(answers.iter().map(function).collect())
    }

    /// The failure of a call in which an answer was refused, whatever the guest has made of it.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take().map(Failure::usage)
    }
}

/// Adds functions that fail, for a guest that is only to start.
pub(crate) fn refuse_all(image: &Image, mut builder: Builder, command: &'static str) -> Builder {
    for name in names(image) {
        builder = builder
            .dynamic_host_fn(name, move |call| Err(format!("`ampoule {command}` provides no `{}`", call.name())));
    }
    builder
}

fn check(image: &Image, answers: &[(String, String)]) -> Result<(), Failure> {
    let imported = names(image);
    for (name, answer) in answers {
        if !imported.contains(name.as_str()) {
            let (name, imports) = (printable_name(name), list(imported.iter().copied()));
            return Err(Failure::usage(format!(
                "--host-fn {name}: the image does not import it; it imports {imports}"
            )));
        }
        if let Err(error) = serde_json::from_str::<IgnoredAny>(answer) {
            return Err(Failure::usage(format!("--host-fn {}: not JSON: {error}", printable_name(name))));
        }
    }
    let missing: Vec<String> = image
        .imports()
        .filter(|import| answers.iter().all(|(name, _)| name != import.name()))
        .map(|import| format!("{}{}", import.name(), import.signature()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    match &missing[..] {
        [] => Ok(()),
        missing => Err(Failure::usage(format!(
            "the guest imports {}; give an answer for each with `--host-fn NAME=JSON`",
            list(missing.iter().map(String::as_str))
        ))),
    }
}

fn names(image: &Image) -> BTreeSet<&str> {
    image.imports().map(ampoule::image::Function::name).collect()
}

fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_LISTED);
    let listed: Vec<&str> = names.take(MAX_LISTED).collect();
    match (&listed[..], more) {
        ([], _) => "nothing".to_owned(),
        (listed, 0) => listed.join(", "),
        (listed, more) => format!("{} and {more} more", listed.join(", ")),
    }
}

/// How many functions a message lists.
const MAX_LISTED: usize = 24;
