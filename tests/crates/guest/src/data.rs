//! Collections, errors, numbers, digests, random values.

use crate::Use;

pub(crate) const USES: &[Use] = &[
    ("ahash", "fills a map", || {
        let map: ahash::AHashMap<u32, u32> = (0..100).map(|n| (n, n * n)).collect();
        assert_eq!(map[&9], 81);
        Ok(())
    }),
    ("hashbrown", "fills a map", || {
        let map: hashbrown::HashMap<u32, u32> = (0..100).map(|n| (n, n * n)).collect();
        assert_eq!(map[&9], 81);
        Ok(())
    }),
    ("indexmap", "keeps the order of entries", || {
        let map = indexmap::IndexMap::from([("b", 1), ("a", 2)]);
        assert_eq!(map.keys().copied().collect::<String>(), "ba");
        Ok(())
    }),
    ("smallvec", "outgrows its place", || {
        let items: smallvec::SmallVec<[u8; 4]> = (0..10).collect();
        assert!(items.spilled());
        Ok(())
    }),
    ("arrayvec", "fills an array", || {
        assert_eq!((0..4).collect::<arrayvec::ArrayVec<u8, 4>>().len(), 4);
        Ok(())
    }),
    ("bytes", "splits a buffer", || {
        let mut bytes = bytes::Bytes::from_static(b"ampoule");
        assert_eq!(&bytes.split_to(3)[..], b"amp");
        Ok(())
    }),
    ("slab", "reuses a place", || {
        let mut slab = slab::Slab::new();
        let key = slab.insert("a");
        slab.remove(key);
        assert_eq!(slab.insert("b"), key);
        Ok(())
    }),
    ("itertools", "joins items", || {
        assert_eq!(itertools::Itertools::join(&mut (1..4), "-"), "1-2-3");
        Ok(())
    }),
    ("once_cell", "is initialized once", || {
        static CELL: once_cell::sync::Lazy<u32> = once_cell::sync::Lazy::new(|| 7);
        assert_eq!(*CELL, 7);
        Ok(())
    }),
    ("sha2", "computes a digest", || {
        use sha2::Digest;
        assert_eq!(sha2::Sha256::digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        Ok(())
    }),
    ("thiserror", "derives an error", || {
        #[derive(Debug, thiserror::Error)]
        #[error("level {0} is too high")]
        struct TooHigh(u32);
        assert_eq!(TooHigh(7).to_string(), "level 7 is too high");
        Ok(())
    }),
    ("anyhow", "chains errors", || {
        let error = anyhow::Error::msg("inner").context("outer");
        assert_eq!(format!("{error:#}"), "outer: inner");
        Ok(())
    }),
    ("num-bigint", "multiplies large numbers", || {
        let product = (1..=25_u32).map(num_bigint::BigUint::from).product::<num_bigint::BigUint>();
        assert_eq!(product.to_string(), "15511210043330985984000000");
        Ok(())
    }),
    ("ndarray", "multiplies matrices", || {
        let matrix = ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(matrix.dot(&matrix), ndarray::arr2(&[[7.0, 10.0], [15.0, 22.0]]));
        Ok(())
    }),
    ("blake3", "computes a digest", || {
        assert!(blake3::hash(b"").to_hex().starts_with("af1349b9f5f9a1a6"));
        Ok(())
    }),
    ("crc32fast", "computes a checksum", || {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        Ok(())
    }),
    ("fastrand", "draws two numbers that differ", || {
        assert_ne!(fastrand::u64(..), fastrand::u64(..));
        Ok(())
    }),
    ("rand", "draws two numbers that differ", || {
        assert_ne!(rand::random::<u64>(), rand::random::<u64>());
        Ok(())
    }),
    ("uuid", "makes a random and a time-based identifier", || {
        assert_ne!(uuid::Uuid::new_v4(), uuid::Uuid::now_v7());
        Ok(())
    }),
];
