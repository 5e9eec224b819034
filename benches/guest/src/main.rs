//! A guest that takes values of several shapes, gives them back, and has the host do the same.

use std::collections::BTreeMap;
use std::hint::black_box;

use ampoule_guest::{export, import};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    label: u32,
    visible: bool,
}

#[import]
fn swap_numbers(numbers: &[u32]) -> Vec<u32>;

#[import]
fn swap_points(points: &[Point]) -> Vec<Point>;

#[import]
fn swap_texts(texts: &[String]) -> Vec<String>;

#[import]
fn swap_maps(maps: &BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, BTreeMap<String, u64>>;

#[export]
fn numbers(numbers: Vec<u32>) -> Vec<u32> {
    swap_numbers(&numbers)
}

#[export]
fn points(points: Vec<Point>) -> Vec<Point> {
    swap_points(&points)
}

#[export]
fn texts(texts: Vec<String>) -> Vec<String> {
    swap_texts(&texts)
}

#[export]
fn maps(maps: BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, BTreeMap<String, u64>> {
    swap_maps(&maps)
}

/// Fills the processor's caches.
#[export]
fn leave_traces() {
    black_box(vec![1_u8; 16 << 20]);
}

ampoule_guest::main!();
