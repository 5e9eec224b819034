//! A guest that shows in spans what it takes its time for.

use ampoule_guest::{export, import};
use tracing::field::Empty;

/// What an article costs, in cents, which only the host knows.
#[import]
fn price(article: &str) -> u32;

/// What a basket costs, in cents.
#[export]
fn checkout(basket: Vec<String>) -> u32 {
    let checkout = tracing::info_span!("checkout", articles = basket.len(), total = Empty).entered();
    let look_up = |article: &String| tracing::info_span!("article", article).in_scope(|| price(article));
    let prices: Vec<u32> = tracing::info_span!("look up").in_scope(|| basket.iter().map(look_up).collect());
    let total = tracing::info_span!("add up").in_scope(|| {
        let sum: u32 = prices.iter().sum();
        let percent = if prices.len() > 1 { 10 } else { 0 };
        tracing::info!(sum, percent, "discount");
        sum - sum * percent / 100
    });
    checkout.record("total", total);
    total
}

ampoule_guest::main!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_articles_are_cheaper_than_each_of_them() {
        let _price = ampoule_guest::testing::provide("price", |_: String| 1000u32);
        assert_eq!(checkout(vec!["lamp".to_owned()]), 1000);
        assert_eq!(checkout(vec!["lamp".to_owned(), "shade".to_owned()]), 1800);
    }
}
