//! What the guest of an image says of its types, and what was found out by it.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::schema::{Content, DataType, FunctionTypes, Schema, Variant};

use super::Image;
use crate::binding::Binding;
use crate::dynamic::Type;

/// The types of an image's functions, in a schema that passes its checks.
pub(crate) struct Described {
    types: Arc<[DataType]>,
    /// How many of the types are the schema's.
    listed: usize,
    functions: HashMap<u32, DescribedFunction>,
    /// By function numbers with the Rust types of arguments and result.
    bindings: Mutex<HashMap<(u32, TypeId), Arc<Binding>>>,
}

/// The types of a function by their places.
#[derive(Clone, Debug)]
pub(crate) struct DescribedFunction {
    pub(crate) parameters: Box<[u32]>,
    pub(crate) result: u32,
    pub(crate) error: u32,
    /// The `Result` of the last two.
    pub(crate) outcome: u32,
}

impl Described {
    /// Takes a schema for an image. `None` where it has functions that the image does not have, or one of them twice.
    pub(crate) fn new(image: &Image, Schema { mut types, functions }: Schema) -> Option<Self> {
        let mut described = HashMap::new();
        let listed = types.len();
        for FunctionTypes { function: number, parameters, result, error } in functions {
            let parameters = parameters.into_boxed_slice();
            if image.function(number)?.signature().parameters().len() != parameters.len() {
                return None;
            }
            let variant = |name: &str, data_type: u32| Variant {
                name: name.to_owned(),
                content: Content::Unnamed(vec![data_type]),
            };
            types.push(DataType::Enum {
                name: "Result".to_owned(),
                variants: vec![variant("Ok", result), variant("Err", error)],
            });
            let outcome = types.len() as u32 - 1;
            if described.insert(number, DescribedFunction { parameters, result, error, outcome }).is_some() {
                return None;
            }
        }
        Some(Self { types: types.into(), listed, functions: described, bindings: Mutex::default() })
    }

    /// The schema again.
    pub(crate) fn schema(&self) -> Schema {
        let function = |(function, described): (&u32, &DescribedFunction)| FunctionTypes {
            function: *function,
            parameters: described.parameters.to_vec(),
            result: described.result,
            error: described.error,
        };
        let mut functions: Vec<_> = self.functions.iter().map(function).collect();
        functions.sort_unstable_by_key(|function| function.function);
        Schema { types: self.types[..self.listed].to_vec(), functions }
    }

    pub(crate) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The structs and enums.
    pub(crate) fn definitions(&self) -> Vec<Type> {
        Type::definitions(&self.types, self.listed)
    }

    /// The types, to be kept by what outlives the image.
    pub(crate) fn shared_types(&self) -> Arc<[DataType]> {
        Arc::clone(&self.types)
    }

    pub(crate) fn function(&self, number: u32) -> Option<&DescribedFunction> {
        self.functions.get(&number)
    }

    /// What was found out about a function for these types, by any sandbox of the image.
    pub(crate) fn binding(&self, number: u32, types: TypeId) -> Option<Arc<Binding>> {
        let bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        bindings.get(&(number, types)).cloned()
    }

    pub(crate) fn remember(&self, number: u32, types: TypeId, binding: &Arc<Binding>) {
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        bindings.insert((number, types), Arc::clone(binding));
    }
}
