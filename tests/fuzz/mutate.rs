//! Owns the changes that are made to inputs: of bytes, of pieces, of words that mean something. The same seed gives the same changes.

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// Longest input that is made: enough for every limit but those of size, which have tests of their own.
const LONGEST: usize = 1 << 14;

/// Another input, made of `from` and its neighbours.
pub fn mutated(from: &[u8], corpus: &[Vec<u8>], words: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut out = from.to_vec();
    for _ in 0..=chance.below(6) {
        let at = chance.below(out.len() + 1);
        let len = chance.below(24).min(out.len() - at);
        match chance.below(10) {
            0 if !out.is_empty() => out[at.min(from.len().min(at)).min(at.saturating_sub(1))] ^= 1 << chance.below(8),
            1 => drop(out.drain(at..at + len)),
            2 => {
                let piece = out[at..at + len].to_vec();
                let to = chance.below(out.len() + 1);
                drop(out.splice(to..to, piece));
            }
            3 => {
                let word = words[chance.below(words.len())].bytes();
                drop(out.splice(at..at, word));
            }
            4 => {
                let word = words[chance.below(words.len())].bytes();
                drop(out.splice(at..at + len, word));
            }
            5 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.below(other.len() + 1);
                let piece = other[from..from + chance.below(200).min(other.len() - from)].to_vec();
                drop(out.splice(at..at + len, piece));
            }
            6 => out.truncate(at),
            7 => {
                // A whole line moves, or is there twice.
                let lines: Vec<&[u8]> = out.split_inclusive(|b| *b == b'\n').collect();
                let line = lines[chance.below(lines.len()).min(lines.len().saturating_sub(1))..].first().map(|l| l.to_vec());
                let start = out[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                drop(out.splice(start..start, line.unwrap_or_default()));
            }
            8 => {
                let byte = u8::try_from(chance.below(256)).unwrap_or(0);
                drop(out.splice(at..at, std::iter::repeat_n(byte, 1 + chance.below(40))));
            }
            _ => {
                // A number becomes another one.
                if let Some(digit) = out[at..].iter().position(u8::is_ascii_digit) {
                    let from = at + digit;
                    let to = out[from..].iter().position(|b| !b.is_ascii_digit()).map_or(out.len(), |n| from + n);
                    let numbers =
                        ["0", "1", "-1", "65536", "4294967296", "9223372036854775807", "18446744073709551616", "1e308", "0.5"];
                    drop(out.splice(from..to, numbers[chance.below(numbers.len())].bytes()));
                }
            }
        }
        out.truncate(LONGEST);
    }
    out
}
