//! A GPU of this machine, for the metrics.

/// What is known of a GPU at one moment; `None` is what its driver does not tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its name as `--device` has it.
    pub device: String,
    /// Bytes that all programs hold of its memory.
    pub memory_used: Option<u64>,
    /// Bytes of its memory.
    pub memory_total: Option<u64>,
    /// Share of the last moments in which it computed, 0 to 1.
    pub utilization: Option<f64>,
    /// Degrees Celsius of the chip.
    pub temperature: Option<f64>,
}
