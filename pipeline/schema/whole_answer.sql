max_rows_to_group_by = 0,
    group_by_overflow_mode = 'throw',
    read_overflow_mode = 'throw',
    read_overflow_mode_leaf = 'throw',
    timeout_overflow_mode = 'throw',
    timeout_overflow_mode_leaf = 'throw'
