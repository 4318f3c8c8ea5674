# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that there is to say of a host, as one page, one document or one bundle."""
