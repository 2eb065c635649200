"""The operators that a TorchScript program may use in a process shared with other models.

Listed are those that compute values from values and check their arguments. Not listed, and why:

- files and processes: save, from_file, fork, wait, rpc_*, PythonOp, profiler, Print (log lines are records);
- memory that was not written: empty*, new_empty*, resize*, set_ and set_data show what other models freed;
- arguments that the C++ code does not check: packing of sequences, losses, native_*, tensors that are
  sparse, quantized or of oneDNN, pivots of factorisations, other operators whose names begin with _
  (lstm and _weight_norm are protected by guards.py); embedding_bag, for which indices of any shape pass;
- state of the process: manual_seed, seed, Generator, set_default_*, backward, autocast, streams;
- sorting of lists: std::sort reads outside a list that holds NaN or objects with an order of their own.

An operator that writes to its input (`relu_`) is listed by its plain name.
"""

_ELEMENTWISE = """
abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh
asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
bitwise_xor ceil celu clamp clamp_max clamp_min clip complex conj conj_physical copysign cos cosh
deg2rad digamma div divide elu eq equal erf erfc erfinv exp exp2 expm1 fill float_power floor
floor_divide fmax fmin fmod frac ge gelu glu greater greater_equal gt hardshrink hardsigmoid hardswish
hardtanh heaviside hypot imag isclose isfinite isin isinf isnan isneginf isposinf isreal ldexp le
leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2 logical_and
logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul multiply nan_to_num ne
neg negative nextafter not_equal polar positive pow prelu rad2deg real reciprocal relu relu6 remainder
resolve_conj resolve_neg round rrelu rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh
softplus softshrink sqrt square sub subtract tan tanh threshold true_divide trunc where xlogy zero
__and__ __or__ __xor__ __iand__ __ior__ __ixor__ __lshift__ __rshift__ __ilshift__ __irshift__
special_digamma special_entr special_erf special_erfc special_erfinv special_exp2 special_expit
special_expm1 special_gammaln special_i0 special_i0e special_log1p special_log_ndtr special_log_softmax
special_logit special_logsumexp special_ndtr special_ndtri special_psi special_round special_sinc
special_softmax special_xlog1py special_xlogy
"""
_REDUCTIONS = """
all allclose amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum diff
dist frobenius_norm kthvalue log_softmax logcumsumexp logsumexp max mean median min mode msort nanmean
nanmedian nansum norm prod quantile nanquantile softmax sort std std_mean sum sum_to_size topk trace
unique_consecutive unique_dim var var_mean _unique2 _unique linalg_norm linalg_vector_norm
linalg_matrix_norm
"""
_PRODUCTS = """
addbmm addmm addmv addr baddbmm bilinear bmm cdist chain_matmul conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d _convolution _convolution_mode convolution cosine_similarity cross dot
einsum ger inner inverse kron linalg_cross linalg_inv linalg_matmul linalg_multi_dot linalg_solve
linalg_vecdot linear matmul mm mv outer pairwise_distance tensordot vdot det linalg_det logdet
linalg_cholesky cholesky linalg_eigh linalg_svd linalg_qr svd linalg_pinv pinverse matrix_exp
matrix_power linalg_matrix_power scaled_dot_product_attention _native_multi_head_attention
_transformer_encoder_layer_fwd _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
to_padded_tensor fft_fft fft_fft2 fft_fftn fft_fftfreq fft_fftshift fft_hfft fft_ifft fft_ifft2
fft_ifftn fft_ifftshift fft_ihfft fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq
fft_rfftn stft istft
"""
_LAYERS = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm
channel_shuffle col2im constant_pad_nd dropout embedding feature_alpha_dropout feature_dropout
grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell im2col instance_norm layer_norm
lstm lstm_cell max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices max_unpool2d max_unpool3d one_hot pad pixel_shuffle pixel_unshuffle
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
"""
_SHAPES = """
adjoint alias argwhere as_strided as_tensor atleast_1d atleast_2d atleast_3d block_diag
broadcast_tensors broadcast_to bucketize cartesian_prod cat chunk clone column_stack combinations concat
concatenate contiguous copy cpu cuda data detach diag diag_embed diagflat diagonal dsplit dstack expand
expand_as flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill
index_put index_select masked_scatter masked_select mH mT matrix_H meshgrid moveaxis movedim narrow
nonzero nonzero_numpy numpy_T pad_sequence permute ravel repeat repeat_interleave requires_grad_ reshape
reshape_as roll rot90 row_stack scatter scatter_add select slice split split_with_sizes squeeze stack
swapaxes swapdims t take take_along_dim tensor_split tile to transpose tril triu type_as unbind
unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as
view_as_complex view_as_real vsplit vstack lift lift_fresh fill_diagonal_ select_scatter slice_scatter
diagonal_scatter
"""
_NEW_TENSORS = """
arange bartlett_window bernoulli blackman_window eye full full_like hamming_window hann_window
kaiser_window linspace logspace multinomial new_full new_ones new_zeros normal ones ones_like rand
rand_like randint randint_like randn randn_like random randperm range scalar_tensor tensor tril_indices
triu_indices uniform vander zeros zeros_like exponential
"""
_QUESTIONS = """
Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit Size dense_dim
dim element_size get_device is_autocast_cpu_enabled is_autocast_enabled is_complex is_conj is_contiguous
is_floating_point is_grad_enabled is_inference is_leaf is_neg is_nonzero is_pinned is_same_size
is_scripting is_set_to is_signed item len numel result_type retains_grad set_grad_enabled
size storage_offset stride
"""
# Of numbers, texts, lists and dicts
_PYTHON = """
Delete __contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __range_length
__round_to_zero_floordiv _set_item _unwrap_optional append bin capitalize center chr
clear copy count degrees dict divmod endswith expandtabs extend fabs factorial find floordiv format
gamma gcd get hash hex index insert isalnum isalpha isdecimal isdigit isidentifier islower isnumeric
isprintable isspace istitle isupper items join keys lcm list ljust lower lstrip mathremainder modf frexp
oct ord partition percentFormat pop popitem radians remove replace reverse rfind rindex rjust rpartition
rsplit rstrip setdefault split splitlines startswith str strip swapcase title update upper values warn
zfill
"""
_STRUCTURE = """
CallFunction CallMethod Constant CreateObject DictConstruct Enter EnumName EnumValue Exit GetAttr If
ListConstruct ListUnpack Loop ModuleContainerIndex NumToTensor RaiseException SetAttr StringIndex
TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized abs data device dtype index is_cpu
is_cuda is_meta is_mkldnn is_mps is_nested is_quantized is_sparse is_sparse_csr is_xla is_xpu is_ipu
is_maia is_mtia is_vulkan isinstance itemsize layout max min name nbytes rangelist requires_grad tolist
type unchecked_cast unchecked_unwrap_optional
"""
_LISTS = (
    _ELEMENTWISE, _REDUCTIONS, _PRODUCTS, _LAYERS, _SHAPES, _NEW_TENSORS, _QUESTIONS, _PYTHON,
)  # fmt: skip
ALLOWED = frozenset(
    {f"aten::{name}" for names in _LISTS for name in names.split()}
    | {f"prim::{name}" for name in _STRUCTURE.split()}
)
# Operators that are allowed for tensors only, though they also exist for lists
FOR_TENSORS = frozenset({"aten::sort"})


def is_allowed(operator: str) -> bool:
    """`operator`: namespace and name without the overload, as `aten::add_`."""
    return operator in ALLOWED or (operator.endswith("_") and operator[:-1] in ALLOWED)
