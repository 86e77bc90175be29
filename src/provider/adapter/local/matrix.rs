//! Weights as rows of eight-bit blocks, and their product with activations.
//!
//! Every weight is held as Q8_0 (32 values share one scale), whatever the file holds. For that format candle
//! picks a kernel for the CPU it finds at run time, while its kernels for Q4_1 and Q5_0 are plain loops that are
//! fast only if the whole program is compiled for a newer CPU. So one binary is fast on new CPUs and runs on
//! old ones; it costs memory, and no accuracy worth the name.
//!
//! The product is ours and not candle's, because candle's worker threads spin while they wait for each other:
//! on a machine with other work to do, that starves the rest of this process and is ten times slower. Rayon's
//! idle threads sleep.

use std::io::{Read, Seek, SeekFrom};

use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::k_quants::BlockQ8_0;
use candle_core::quantized::{GgmlType, QStorage, QTensor};
use candle_core::{Device, Result};
use rayon::prelude::*;

/// Values that share a scale.
const BLOCK: usize = BlockQ8_0::BLCK_SIZE;

/// Rows that one task multiplies: enough that starting the task costs little beside it.
const ROWS_PER_TASK: usize = 64;

/// A weight matrix, one row per output.
pub(super) struct Matrix {
    rows: usize,
    /// Blocks in a row.
    blocks: usize,
    weights: Vec<BlockQ8_0>,
}

impl Matrix {
    /// Reads the named tensors and puts their rows under each other.
    pub(super) fn read<R: Read + Seek>(
        content: &Content,
        file: &mut R,
        names: &[String],
    ) -> Result<Self> {
        let mut matrix = Self {
            rows: 0,
            blocks: 0,
            weights: Vec::new(),
        };
        for name in names {
            matrix.push(content, file, name)?;
        }
        Ok(matrix)
    }

    fn push<R: Read + Seek>(&mut self, content: &Content, file: &mut R, name: &str) -> Result<()> {
        let Some(info) = content.tensor_infos.get(name) else {
            candle_core::bail!("there is no tensor {name}");
        };
        let ((rows, cols), kind) = (info.shape.dims2()?, info.ggml_dtype);
        let blocks = cols / BLOCK;
        let whole = cols.is_multiple_of(BLOCK) && cols.is_multiple_of(kind.block_size());
        if blocks == 0 || !whole || (self.rows > 0 && blocks != self.blocks) {
            candle_core::bail!("tensor {name} has rows of {cols} values");
        }
        let row_bytes = cols / kind.block_size() * kind.type_size();
        let size = rows.saturating_mul(row_bytes);
        let mut bytes = Vec::new();
        let start = content.tensor_data_offset.saturating_add(info.offset);
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(size as u64).read_to_end(&mut bytes)?;
        if bytes.len() != size {
            candle_core::bail!("the file ends within tensor {name}");
        }
        let start = self.weights.len();
        self.weights
            .resize(start + rows * blocks, BlockQ8_0::zeros());
        // Some rows at a time, since the whole would take four bytes a value on its way.
        self.weights[start..]
            .par_chunks_mut(ROWS_PER_TASK * blocks)
            .zip(bytes.par_chunks(ROWS_PER_TASK * row_bytes))
            .try_for_each(|(weights, bytes)| {
                let storage = QStorage::from_data(bytes.into(), &Device::Cpu, kind)?;
                let tensor = QTensor::new(storage, (bytes.len() / row_bytes, cols))?;
                let values = tensor.dequantize(&Device::Cpu)?.flatten_all()?;
                BlockQ8_0::from_float(&values.to_vec1::<f32>()?, weights);
                Result::Ok(())
            })?;
        self.rows += rows;
        self.blocks = blocks;
        Ok(())
    }

    /// How many outputs.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many inputs.
    pub(super) fn cols(&self) -> usize {
        self.blocks * BLOCK
    }

    /// Writes row `index` into `out`.
    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        BlockQ8_0::to_float(&self.weights[index * self.blocks..][..self.blocks], out);
    }

    /// The products of this matrix with every row-sized vector of `inputs`, one after the other.
    pub(super) fn mul(&self, inputs: &[f32]) -> Vec<f32> {
        let (cols, blocks) = (self.cols(), self.blocks);
        let count = inputs.len() / cols;
        let mut levels = vec![BlockQ8_0::zeros(); count * blocks];
        BlockQ8_0::from_float(inputs, &mut levels);
        // A row meets all inputs while it is in the cache, so the result comes out row by row.
        let mut by_row = vec![0.0; self.rows * count];
        by_row
            .par_chunks_mut(ROWS_PER_TASK * count)
            .zip(self.weights.par_chunks(ROWS_PER_TASK * blocks))
            .for_each(|(out, rows)| {
                for (out, row) in out.chunks_exact_mut(count).zip(rows.chunks_exact(blocks)) {
                    for (out, input) in out.iter_mut().zip(levels.chunks_exact(blocks)) {
                        *out = BlockQ8_0::vec_dot(cols, row, input);
                    }
                }
            });
        if count == 1 {
            return by_row;
        }
        let mut by_input = vec![0.0; by_row.len()];
        for (row, products) in by_row.chunks_exact(count).enumerate() {
            for (input, product) in products.iter().enumerate() {
                by_input[input * self.rows + row] = *product;
            }
        }
        by_input
    }
}

/// Reads a tensor of one dimension.
pub(super) fn vector<R: Read + Seek>(
    content: &Content,
    file: &mut R,
    name: &str,
) -> Result<Vec<f32>> {
    content
        .tensor(file, name, &Device::Cpu)?
        .dequantize(&Device::Cpu)?
        .flatten_all()?
        .to_vec1()
}

/// The sum of products of two vectors of one length.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    <f32 as GgmlType>::vec_dot(left.len().min(right.len()), left, right)
}
