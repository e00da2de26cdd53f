//! Foreign buffers → record batches. (Being written.)
