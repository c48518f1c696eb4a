"""Transformers is quiet inside the block, and as talkative as before after it."""

import pytest
import transformers

from common.base_models.transformers_logging import quiet


@pytest.mark.parametrize("bars", [True, False])
def test_the_settings_come_back_even_after_an_error(bars: bool) -> None:
    logging = transformers.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    inside = []

    def fail() -> None:
        with quiet():
            inside.append((logging.get_verbosity(), logging.is_progress_bar_enabled()))
            raise KeyError

    try:
        with pytest.raises(KeyError):
            fail()
        assert inside == [(logging.ERROR, False)]
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() == bars
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
