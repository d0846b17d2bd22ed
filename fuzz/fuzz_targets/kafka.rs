//! Any bytes as the records of a batch that a Kafka sends, in the codec that the first byte names. Head and checksum are made to fit,
//! so that what is within them is reached. Leaves out answers, which are read by the codec crate.

#![no_main]

use brokerlab_live::kafka::compression::{Codec, Compressor, inflate};
use brokerlab_live::kafka::count_records;
use crc_fast::CrcAlgorithm;
use libfuzzer_sys::fuzz_target;

const HEAD: usize = 61;
const MOST: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[attributes, count], records)) = bytes.split_first_chunk::<2>() else { return };
    let codec = Codec::of_attributes(attributes.into()).unwrap_or_default();
    if let Ok(inflated) = inflate(codec, records, MOST) {
        assert!(inflated.len() <= MOST);
    }
    let level = if codec == Codec::Gzip { 6 } else { 1 };
    let mut small = Vec::new();
    if Compressor::new(codec, level).is_ok_and(|mut compressor| compressor.compress(records, &mut small)) {
        assert!(small.len() < records.len());
        assert_eq!(inflate(codec, &small, records.len()).as_deref(), Ok(records));
    }
    for (attributes, records) in [(attributes, records), (codec as u8, &small)] {
        let mut batch = vec![0; HEAD];
        batch.extend_from_slice(records);
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        (batch[16], batch[22], batch[60]) = (2, attributes, count);
        let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(found) = count_records(&batch) {
            assert!(found <= u64::from(count));
        }
    }
});
