//! Text → numbers, decimals, days, instants, times of day, lengths of time.
//!
//! Invariants:
//! - Exact: digits that would be lost are told apart from text that says nothing. No number goes through a `f64`
//!   but those that are to become one.
//! - Strict: one form for each thing (ISO 8601, complete). No clock, zone or language of the machine is asked.
//! - Time grows with the length of the text.
//!
//! The rules are those of `specs/rows.md`; `src-ts/rows/text.ts` has the same for values of JavaScript, and
//! `tests/ts/files.test.ts` holds the two to each other.

use arrow::datatypes::i256;

/// Why text is not the value that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It does not say what it should.
    Malformed,
    /// The type holds it only with a loss.
    Inexact,
    /// More than the type holds.
    Range,
}

/// Digits that no type holds, and more of which would only take time.
const MAX_NUMBER_TEXT: usize = 4_096;
/// Of 10^76 the last that 256 bits hold with a sign.
const MAX_DIGITS: usize = 77;

/// A whole number, from `-12`, `12.0` or `1.2e1`.
pub fn whole(text: &[u8]) -> Result<i128, Wrong> {
    if let Some(quick) = short_whole(text) {
        return Ok(i128::from(quick));
    }
    decimal(text, 0)?.to_i128().ok_or(Wrong::Range)
}

/// What most whole numbers are: a sign and up to 18 digits.
#[inline]
pub fn short_whole(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut number = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if negative { -number } else { number })
}

/// A whole number of units of 10^-scale, from digits with a sign, a point and an exponent of up to four digits.
pub fn decimal(text: &[u8], scale: i32) -> Result<i256, Wrong> {
    let number = Number::parse(text).ok_or(Wrong::Malformed)?;
    if let Some(quick) = number.quick(scale) {
        return Ok(i256::from_i128(quick));
    }
    let mut digits = Vec::with_capacity(number.whole.len() + number.fraction.len());
    digits.extend_from_slice(number.whole);
    digits.extend_from_slice(number.fraction);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    if digits.is_empty() {
        return Ok(i256::ZERO);
    }
    let shift = i64::from(scale) + i64::from(number.exponent) - number.fraction.len() as i64;
    if shift < 0 {
        let lost = usize::try_from(-shift).unwrap_or(usize::MAX).min(digits.len());
        let kept = digits.len() - lost;
        if digits[kept..].iter().any(|digit| *digit != b'0') {
            return Err(Wrong::Inexact);
        }
        digits.truncate(kept);
    } else if digits.len() as i64 + shift > MAX_DIGITS as i64 {
        return Err(Wrong::Range);
    } else {
        digits.resize(digits.len() + shift as usize, b'0');
    }
    if digits.len() > MAX_DIGITS {
        return Err(Wrong::Range);
    }
    let mut units = i256::ZERO;
    for chunk in digits.chunks(18) {
        let value = chunk
            .iter()
            .fold(0i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        units = units
            .checked_mul(i256::from_i128(10i128.pow(chunk.len() as u32)))
            .and_then(|units| units.checked_add(i256::from_i128(value)))
            .ok_or(Wrong::Range)?;
    }
    Ok(if number.negative {
        units.wrapping_neg()
    } else {
        units
    })
}

/// The parts of a number's text.
struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

impl<'a> Number<'a> {
    fn parse(text: &'a [u8]) -> Option<Number<'a>> {
        if text.len() > MAX_NUMBER_TEXT {
            return None;
        }
        let (negative, rest) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = rest.split_at(digits(rest));
        if whole.is_empty() {
            return None;
        }
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', after)) if digits(after) == 0 => return None,
            Some((b'.', after)) => after.split_at(digits(after)),
            _ => (&rest[..0], rest),
        };
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', after)) => exponent(after)?,
            Some(_) => return None,
        };
        Some(Number {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// Where all of it fits into 18 digits, and the result into 38.
    fn quick(&self, scale: i32) -> Option<i128> {
        let raise = i64::from(scale) + i64::from(self.exponent) - self.fraction.len() as i64;
        if self.whole.len() + self.fraction.len() > 18 || !(0..=19).contains(&raise) {
            return None;
        }
        let sum = |sum: i64, digit: &u8| sum * 10 + i64::from(digit - b'0');
        let units = self.fraction.iter().fold(self.whole.iter().fold(0, sum), sum);
        let units = i128::from(units) * 10i128.pow(raise as u32);
        Some(if self.negative { -units } else { units })
    }
}

fn has_sign(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'-' | b'+'))
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn exponent(text: &[u8]) -> Option<i32> {
    let digits = if has_sign(text) { &text[1..] } else { text };
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0i32, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    Some(if text[0] == b'-' { -value } else { value })
}

/// Whether text is a number as [`decimal`] takes it, whatever its size.
pub fn is_number(text: &[u8]) -> bool {
    Number::parse(text).is_some()
}

/// Whole seconds and the nanoseconds after them: since 1970, or since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub seconds: i64,
    /// From 0 to 999,999,999.
    pub nanos: i64,
    /// Whether `Z` or an offset was there; it is taken into account.
    pub has_offset: bool,
}

impl Moment {
    /// In units of which so many make a second.
    pub fn count(self, per_second: i64) -> Result<i64, Wrong> {
        let unit = 1_000_000_000 / per_second;
        if self.nanos % unit != 0 {
            return Err(Wrong::Inexact);
        }
        let count = i128::from(self.seconds) * i128::from(per_second) + i128::from(self.nanos / unit);
        i64::try_from(count).map_err(|_| Wrong::Range)
    }
}

/// `N` digits from `at` on.
#[inline]
fn digits_at<const N: usize>(text: &[u8], at: usize) -> Option<i64> {
    let digits: &[u8; N] = text.get(at..at + N)?.try_into().ok()?;
    let (mut value, mut other) = (0, 0);
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        other |= u8::from(digit > 9);
        value = value * 10 + i64::from(digit);
    }
    (other == 0).then_some(value)
}

/// All of the text, which is digits and no more than 18 of them.
fn digits_of(text: &[u8]) -> i64 {
    text.iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'))
}

/// Days since 1970 in the calendar that ISO 8601 extends to all years.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    const DAYS: [i64; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let longest = *DAYS.get(usize::try_from(month - 1).ok()?)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if !(1..=longest).contains(&day) || (month == 2 && day == 29 && !leap) {
        return None;
    }
    // Years that begin in March end with the day that may not be there.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The day at the beginning of the text, and how long its text is.
fn leading_day(text: &[u8]) -> Option<(i64, usize)> {
    let first = *text.first()?;
    let is_long = first == b'+' || first == b'-';
    let (year, end) = match is_long {
        true => (digits_at::<6>(text, 1)?, 13),
        false => (digits_at::<4>(text, 0)?, 10),
    };
    // There is one year 0, and it is not negative.
    if text.get(end - 6) != Some(&b'-') || text.get(end - 3) != Some(&b'-') || (first == b'-' && year == 0) {
        return None;
    }
    let year = if first == b'-' { -year } else { year };
    Some((
        days_of(
            year,
            digits_at::<2>(text, end - 5)?,
            digits_at::<2>(text, end - 2)?,
        )?,
        end,
    ))
}

/// `2026-11-29` or `+012026-11-29` → days since 1970.
pub fn day(text: &[u8]) -> Result<i64, Wrong> {
    match leading_day(text) {
        Some((days, end)) if end == text.len() => Ok(days),
        _ => Err(Wrong::Malformed),
    }
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f…` from `at` on: seconds, nanoseconds, and where it ends.
fn clock(text: &[u8], at: usize) -> Result<(i64, i64, usize), Wrong> {
    let part = |at, most| {
        digits_at::<2>(text, at)
            .filter(|value| *value <= most)
            .ok_or(Wrong::Malformed)
    };
    let (hour, minute) = (part(at, 23)?, part(at + 3, 59)?);
    if text[at + 2] != b':' {
        return Err(Wrong::Malformed);
    }
    let seconds = hour * 3_600 + minute * 60;
    if text.get(at + 5) != Some(&b':') {
        return Ok((seconds, 0, at + 5));
    }
    let seconds = seconds + part(at + 6, 59)?;
    if text.get(at + 8) != Some(&b'.') {
        return Ok((seconds, 0, at + 8));
    }
    let fraction = &text[at + 9..];
    let length = digits(fraction);
    if length == 0 {
        return Err(Wrong::Malformed);
    }
    let kept = length.min(9);
    if fraction[kept..length].iter().any(|digit| *digit != b'0') {
        return Err(Wrong::Inexact);
    }
    let nanos = digits_of(&fraction[..kept]) * 10i64.pow(9 - kept as u32);
    Ok((seconds, nanos, at + 9 + length))
}

/// `13:37`, `13:37:00`, `13:37:00.123456789` → since midnight.
pub fn time(text: &[u8]) -> Result<Moment, Wrong> {
    let (seconds, nanos, end) = clock(text, 0)?;
    if end != text.len() {
        return Err(Wrong::Malformed);
    }
    Ok(Moment {
        seconds,
        nanos,
        has_offset: false,
    })
}

/// A day, `T` or a blank, a time of day, and perhaps `Z` or an offset → since 1970.
pub fn moment(text: &[u8]) -> Result<Moment, Wrong> {
    let (days, end) = leading_day(text).ok_or(Wrong::Malformed)?;
    if !matches!(text.get(end), Some(b'T' | b' ')) {
        return Err(Wrong::Malformed);
    }
    let (seconds, nanos, end) = clock(text, end + 1)?;
    let offset = match end == text.len() {
        true => None,
        false => Some(offset(&text[end..]).ok_or(Wrong::Malformed)?),
    };
    Ok(Moment {
        seconds: days * 86_400 + seconds - offset.unwrap_or(0),
        nanos,
        has_offset: offset.is_some(),
    })
}

/// `Z`, `+01:00`, `+0100` or `+01`, in seconds.
fn offset(text: &[u8]) -> Option<i64> {
    let sign = match text[0] {
        b'Z' => return (text.len() == 1).then_some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let colon = text.get(3) == Some(&b':');
    let hours = digits_at::<2>(text, 1).filter(|hours| *hours < 24)?;
    let minutes = match (text.len(), colon) {
        (3, _) => 0,
        (6, true) => digits_at::<2>(text, 4)?,
        (5, false) => digits_at::<2>(text, 3)?,
        _ => return None,
    };
    (minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// `P1W2DT3H4M5.6S`, perhaps with a sign for all of it, a day being 24 hours, in units of which so many make a
/// second. Months and years have no length.
pub fn length(text: &[u8], per_second: i64) -> Result<i64, Wrong> {
    let (negative, rest) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let Some((b'P', mut rest)) = rest.split_first() else {
        return Err(Wrong::Malformed);
    };
    let (mut seconds, mut nanos) = (0i128, 0i128);
    // Units in their order, each at most once; behind `T`, those of the clock.
    let mut units: &[(u8, i128)] = &[(b'W', 604_800), (b'D', 86_400)];
    let mut in_clock = false;
    let mut empty = true;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'T' && !in_clock && !after.is_empty() {
            (in_clock, units, rest) = (true, &[(b'H', 3_600), (b'M', 60), (b'S', 1)], after);
            continue;
        }
        let width = digits(rest);
        if width == 0 || width > 18 {
            return Err(Wrong::Malformed);
        }
        let value = i128::from(digits_of(&rest[..width]));
        rest = &rest[width..];
        let mut fraction = 0;
        if let Some((b'.', after)) = rest.split_first() {
            let width = digits(after);
            if !(1..=9).contains(&width) || after.get(width) != Some(&b'S') {
                return Err(Wrong::Malformed);
            }
            fraction = digits_of(&after[..width]) * 10i64.pow(9 - width as u32);
            rest = &after[width..];
        }
        let letter = *rest.first().ok_or(Wrong::Malformed)?;
        let at = units
            .iter()
            .position(|(unit, _)| *unit == letter)
            .ok_or(Wrong::Malformed)?;
        seconds += value * units[at].1;
        nanos += i128::from(fraction);
        units = &units[at + 1..];
        rest = &rest[1..];
        empty = false;
    }
    if empty {
        return Err(Wrong::Malformed);
    }
    let unit = i128::from(1_000_000_000 / per_second);
    if nanos % unit != 0 {
        return Err(Wrong::Inexact);
    }
    let count = seconds * i128::from(per_second) + nanos / unit;
    i64::try_from(if negative { -count } else { count }).map_err(|_| Wrong::Range)
}

/// The 16 bytes of a UUID in its form of 36 characters.
pub fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    uuid::Uuid::try_parse(text).ok().map(uuid::Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, scale: i32) -> Result<String, Wrong> {
        decimal(text.as_bytes(), scale).map(|units| units.to_string())
    }

    #[test]
    fn decimals_lose_no_digit_and_take_no_other_text() {
        let long = "1".repeat(40);
        for (text, scale, expected) in [
            ("0.1", 1, Ok("1")),
            ("-0.10", 1, Ok("-1")),
            ("9007199254740993", 0, Ok("9007199254740993")),
            (
                "12345678901234567890123456789.12345678",
                8,
                Ok("1234567890123456789012345678912345678"),
            ),
            (&long, 0, Ok(&long)),
            ("1e3", 0, Ok("1000")),
            ("1.5e1", 0, Ok("15")),
            ("15000e-3", 0, Ok("15")),
            ("0e9999", 4, Ok("0")),
            ("000", 0, Ok("0")),
            ("1.5", 0, Err(Wrong::Inexact)),
            ("1e-9999", 38, Err(Wrong::Inexact)),
            ("1e9999", 0, Err(Wrong::Range)),
            ("1e77", 0, Err(Wrong::Range)),
            ("", 0, Err(Wrong::Malformed)),
            ("-", 0, Err(Wrong::Malformed)),
            ("1.", 0, Err(Wrong::Malformed)),
            (".5", 1, Err(Wrong::Malformed)),
            ("1e", 0, Err(Wrong::Malformed)),
            ("1e12345", 0, Err(Wrong::Malformed)),
            ("1_000", 0, Err(Wrong::Malformed)),
        ] {
            assert_eq!(
                units(text, scale).as_deref(),
                expected.as_deref(),
                "{text} at {scale}"
            );
        }
        assert_eq!(units(&"9".repeat(78), 0), Err(Wrong::Range));
        assert_eq!(units(&"1".repeat(5_000), 0), Err(Wrong::Malformed));
    }

    #[test]
    fn whole_numbers_are_whole() {
        assert_eq!(whole(b"-0"), Ok(0));
        assert_eq!(whole(b"18446744073709551615"), Ok(18_446_744_073_709_551_615));
        assert_eq!(whole(b"12.000"), Ok(12));
        assert_eq!(whole(b"12.001"), Err(Wrong::Inexact));
        assert_eq!(whole(b"1e60"), Err(Wrong::Range));
        assert_eq!(whole(b"12x"), Err(Wrong::Malformed));
    }

    #[test]
    fn instants_are_those_of_the_calendar() {
        assert_eq!(day(b"1970-01-01"), Ok(0));
        assert_eq!(day(b"2000-02-29"), Ok(11_016));
        assert_eq!(day(b"-000001-12-31"), Ok(-719_529));
        assert_eq!(day(b"+002026-11-29"), day(b"2026-11-29"));
        for text in [
            "1900-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-1-01",
            "-000000-01-01",
            "2026-11-29 ",
            "",
            "+",
        ] {
            assert_eq!(day(text.as_bytes()), Err(Wrong::Malformed), "{text}");
        }
        let at = |text: &str| moment(text.as_bytes()).and_then(|moment| moment.count(1_000_000));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(at("1970-01-01 01:00+01:00"), Ok(0));
        assert_eq!(at("1970-01-01T01:00-0130"), Ok(9_000_000_000));
        assert_eq!(at("1969-12-31T23:00:00+00"), Ok(-3_600_000_000));
        assert_eq!(at("1970-01-01T00:00:00.0000001"), Err(Wrong::Inexact));
        assert_eq!(at("1970-01-01T00:00:00.0000000001"), Err(Wrong::Inexact));
        assert_eq!(at("+300000-01-01T00:00Z"), Err(Wrong::Range));
        for text in [
            "1970-01-01",
            "1970-01-01T24:00Z",
            "1970-01-01T00:60",
            "1970-01-01T00:00:60",
            "1970-01-01T00:00:00.",
            "1970-01-01T00:00ZZ",
            "1970-01-01T00:00+1",
            "1970-01-01T00:00+24",
            "1970-01-01T00:00+01:60",
            "1970-01-01T00-00",
            "1970-01-01T0",
            "1970-01-01T00:00x",
            "1970-01-01x00:00",
        ] {
            assert_eq!(at(text), Err(Wrong::Malformed), "{text}");
        }
        assert_eq!(
            time(b"13:37:00.25").and_then(|time| time.count(1_000)),
            Ok(49_020_250)
        );
        assert_eq!(time(b"13:37Z"), Err(Wrong::Malformed));
    }

    #[test]
    fn lengths_of_time_are_counted() {
        assert_eq!(length(b"P1DT1.5S", 1_000), Ok(86_401_500));
        assert_eq!(length(b"-P2W", 1), Ok(-1_209_600));
        assert_eq!(length(b"+PT1H2M3S", 1), Ok(3_723));
        assert_eq!(length(b"PT0.5S", 1), Err(Wrong::Inexact));
        assert_eq!(length(b"P999999999999999W", 1_000_000_000), Err(Wrong::Range));
        for text in [
            "", "P", "PT", "P1Y", "P1", "PT1D", "P1H", "PT1S1H", "P1.5D", "PT1.S", "1D", "PxD", "P1DT",
        ] {
            assert_eq!(length(text.as_bytes(), 1), Err(Wrong::Malformed), "{text}");
        }
    }

    #[test]
    fn uuids_have_one_form() {
        assert!(uuid(b"00000000-0000-0000-0000-0000000000ff").is_some_and(|bytes| bytes[15] == 255));
        assert_eq!(uuid(b"000000000000000000000000000000ff"), None);
        assert_eq!(uuid(b"00000000-0000-0000-0000-0000000000fg"), None);
    }
}
