//! How large the parts of a multipart upload are.
//!
//! S3 and Google take 10,000 parts, of 5 MiB and more but for the last. Parts are of one size as long as that can do, because
//! some services want them equal; those of a very large blob grow with it.

const MIB: u64 = 1 << 20;

/// The least that a part has which is not the last.
pub(crate) const LEAST: u64 = 5 * MIB;

/// How large the first parts are.
const FIRST: u64 = 8 * MIB;

/// The largest part, which has to fit in memory.
const LARGEST: u64 = 128 * MIB;

/// The most parts that an object is made of.
pub(crate) const MOST: usize = 10_000;

/// As long as there are fewer parts, a suspended upload leaves parts that are smaller than they could be.
const FEW: usize = MOST / 2;

/// The most bytes that a suspended upload keeps aside.
const LARGEST_TAIL: u64 = 16 * MIB;

/// The sizes of parts where this much memory may be taken by all uploads together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartSizes {
    largest: u64,
}

impl PartSizes {
    pub(crate) fn within(memory: u64) -> Self {
        Self { largest: (memory / 4).clamp(FIRST, LARGEST) }
    }

    /// How large the part is that begins at this offset: a thousandth of what is there, so that there is always room for
    /// as much again. In whole MiB.
    pub(crate) fn at(self, offset: u64) -> u64 {
        offset.div_ceil(1000 * MIB).saturating_mul(MIB).clamp(FIRST, self.largest)
    }

    /// From how many bytes on a suspended upload leaves them as a part in place of keeping them aside.
    pub(crate) fn least(self, parts: usize, offset: u64) -> u64 {
        if parts < FEW { LEAST } else { self.at(offset).min(LARGEST_TAIL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// How large a blob can get that comes in chunks of some size, after each of which it is suspended.
    fn reach(sizes: PartSizes, chunk: Option<u64>) -> (u64, u64) {
        let (mut offset, mut parts, mut tail, mut largest_tail) = (0, 0, 0, 0);
        while parts < MOST {
            let whole = sizes.at(offset);
            assert!((LEAST..=LARGEST).contains(&whole) && whole.is_multiple_of(MIB));
            let mut left = chunk.unwrap_or(u64::MAX);
            while left > 0 && parts < MOST {
                let whole = sizes.at(offset);
                let taken = left.min(whole - tail);
                left -= taken;
                tail += taken;
                if tail == whole || (left == 0 && tail >= sizes.least(parts, offset)) {
                    (offset, parts, tail) = (offset + tail, parts + 1, 0);
                }
            }
            largest_tail = tail.max(largest_tail);
        }
        (offset, largest_tail)
    }

    #[test]
    fn ten_thousand_parts_suffice() {
        let sizes = PartSizes::within(512 * MIB);
        assert!(reach(sizes, None).0 > 900 * GIB);
        for chunk in [MIB, LEAST, 6 * MIB, 10 * MIB, 100 * MIB] {
            let (reached, tail) = reach(sizes, Some(chunk));
            assert!(reached > 90 * GIB, "chunks of {chunk} reach {reached}");
            assert!(tail < LARGEST_TAIL, "chunks of {chunk} leave {tail} aside");
        }
        assert!(reach(PartSizes::within(0), None).0 > 78 * GIB);
    }

    /// What is sent in one go, up to the size that is promised: never too many parts, none too small but the last, none too large.
    #[test]
    fn plans_for_blobs_of_any_size() {
        const PROMISED: u64 = 900 * GIB;
        let sizes = PartSizes::within(512 * MIB);
        let around = |size: u64| [size - 1, size, size + 1];
        let blobs = (0..=60).map(|n| PROMISED / 60 * n + 1).filter(|size| *size <= PROMISED);
        let blobs = blobs
            .chain([1, PROMISED])
            .chain([8 * MIB, 5 * GIB, 8000 * MIB].into_iter().flat_map(around));
        for blob in blobs {
            let (mut parts, mut offset, mut last) = (0, 0, 0);
            while offset < blob {
                assert!(
                    parts == 0 || (LEAST..=5 * GIB).contains(&last),
                    "{blob}: part {parts} has {last}"
                );
                last = sizes.at(offset).min(blob - offset);
                assert!(last <= LARGEST, "{blob}: {last} bytes have to fit in memory");
                (parts, offset) = (parts + 1, offset + last);
            }
            assert!(parts <= MOST && offset == blob && last > 0, "{blob}: {parts} parts");
        }
    }

    #[test]
    fn parts_are_equal_as_long_as_that_can_do() {
        let sizes = PartSizes::within(512 * MIB);
        assert_eq!(sizes.at(0), 8 * MIB);
        assert_eq!(sizes.at(7 * GIB), 8 * MIB);
        assert_eq!(sizes.at(50 * GIB), 52 * MIB);
        assert_eq!(sizes.at(u64::MAX), LARGEST);
    }
}
