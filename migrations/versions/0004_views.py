"""Create views for queries by hand: labels instead of option ids, and the values a store view overrides.

Lock   creates views only; waits for nothing.
Order  after 0003, whose tables hold the labels.
Back   drops the views; they hold no data. `products_current` of 0001 stays.

They need no new index: both read every table by its primary key, or products by SKU.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

VIEWS = ("product_attribute_labels", "product_overrides")

# --- product_attribute_labels ----------------------------------------------------------------

# The option ids of a multiselect value, one per row and in its order: `n` and `id`.
IDS = {
    "sqlite": (
        "(SELECT key AS n, value AS id FROM json_each("
        "'[' || replace(json_quote(pa.value), ',', '\",\"') || ']'))"
    ),
    "postgresql": "unnest(string_to_array(pa.value, ',')) WITH ORDINALITY AS ids (id, n)",
    "mysql": (
        "JSON_TABLE(CONCAT('[', REPLACE(JSON_QUOTE(pa.value), ',', '\",\"'), ']'), '$[*]' COLUMNS ("
        "n FOR ORDINALITY, id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$'))"
    ),
}
JOINED = {
    "sqlite": "group_concat(COALESCE(mine.label, base.label), ', ')",
    "postgresql": "string_agg(COALESCE(mine.label, base.label), ', ' ORDER BY ids.n)",
    "mysql": "GROUP_CONCAT(COALESCE(mine.label, base.label) ORDER BY ids.n SEPARATOR ', ')",
}


def option(alias: str, store_view: str, value: str) -> str:
    """Join one option of an attribute by its full key."""
    return (
        f"LEFT JOIN attribute_options {alias} ON {alias}.store_view = {store_view} "
        f"AND {alias}.attribute_code = pa.attribute_code AND {alias}.option_value = {value}"
    )


def labels(dialect: str) -> str:
    """Select the option label of this store view, else of `all`; null where Commerce lists no such option."""
    ids = IDS[dialect] if " AS ids" in IDS[dialect] else f"{IDS[dialect]} ids"
    return f"""
        SELECT pa.store_view, pa.product_id, p.sku, pa.attribute_code, a.label AS attribute_label, pa.value,
            CASE WHEN a.frontend_input = 'multiselect' THEN (
                SELECT {JOINED[dialect]} FROM {ids}
                {option("mine", "pa.store_view", "ids.id")}
                {option("base", "'all'", "ids.id")}
            ) ELSE COALESCE(mine.label, base.label) END AS value_label
        FROM product_attributes pa
        LEFT JOIN products p ON p.store_view = pa.store_view AND p.product_id = pa.product_id
        LEFT JOIN attributes a ON a.attribute_code = pa.attribute_code
        {option("mine", "pa.store_view", "pa.value")}
        {option("base", "'all'", "pa.value")}
    """


# --- product_overrides -----------------------------------------------------------------------

AS_TEXT = {
    "sqlite": {"name": "{}", "price": "printf('%.6f', {})", "status": "CAST({} AS TEXT)"},
    "postgresql": {"name": "{}", "price": "CAST({} AS text)", "status": "CAST({} AS text)"},
    "mysql": {"name": "{}", "price": "CAST({} AS CHAR)", "status": "CAST({} AS CHAR)"},
}
ALIKE = {"name": "name", "price": "price", "weight": "price", "status": "status", "visibility": "status"}
# Start from the store view: its products join `all` by primary key. No index serves the reverse join.
IN_ORDER = {"sqlite": "CROSS JOIN", "postgresql": "JOIN", "mysql": "STRAIGHT_JOIN"}
LIVE = "v.store_view <> 'all' AND v.deleted_at IS NULL AND b.deleted_at IS NULL"


def both(dialect: str) -> str:
    """A product in a store view, joined with the same product in `all`."""
    return (
        f"FROM products v {IN_ORDER[dialect]} products b "
        "ON b.store_view = 'all' AND b.product_id = v.product_id"
    )


def attributes_of(dialect: str, alias: str, owner: str) -> str:
    return (
        f"{IN_ORDER[dialect]} product_attributes {alias} "
        f"ON {alias}.store_view = {owner}.store_view AND {alias}.product_id = {owner}.product_id"
    )


def same_attribute(alias: str, owner: str, other: str) -> str:
    """Left join the attribute of product `owner` that has the code of `other`."""
    return (
        f"LEFT JOIN product_attributes {alias} ON {alias}.store_view = {owner}.store_view "
        f"AND {alias}.product_id = {owner}.product_id AND {alias}.attribute_code = {other}.attribute_code"
    )


def columns_that_differ(dialect: str, name: str) -> str:
    """Select one column of `products` where it differs; its name is the attribute's in Commerce."""
    as_text = AS_TEXT[dialect][ALIKE[name]]
    own, base = (
        f"CASE WHEN {at}.{name} IS NOT NULL THEN {as_text.format(f'{at}.{name}')} END" for at in "vb"
    )
    differ = (
        f"(v.{name} <> b.{name} OR (v.{name} IS NULL AND b.{name} IS NOT NULL) "
        f"OR (v.{name} IS NOT NULL AND b.{name} IS NULL))"
    )
    return f"""
        SELECT v.store_view, v.product_id, v.sku, '{name}' AS attribute_code,
            {own} AS value, {base} AS all_value
        {both(dialect)} WHERE {LIVE} AND {differ}
    """


def attributes_that_differ(dialect: str) -> str:
    """Select attributes of the store view whose value in `all` differs or is absent."""
    return f"""
        SELECT v.store_view, v.product_id, v.sku, own.attribute_code, own.value, base.value AS all_value
        {both(dialect)} {attributes_of(dialect, "own", "v")} {same_attribute("base", "b", "own")}
        WHERE {LIVE} AND (base.value IS NULL OR own.value <> base.value)
    """


def attributes_that_are_missing(dialect: str) -> str:
    """Select attributes that only `all` has."""
    return f"""
        SELECT v.store_view, v.product_id, v.sku, base.attribute_code, own.value, base.value AS all_value
        {both(dialect)} {attributes_of(dialect, "base", "b")} {same_attribute("own", "v", "base")}
        WHERE {LIVE} AND own.product_id IS NULL
    """


def overrides(dialect: str) -> str:
    """Select every value of a live product that differs between a store view and `all`."""
    parts = [attributes_that_differ(dialect), attributes_that_are_missing(dialect)]
    parts += [columns_that_differ(dialect, name) for name in ALIKE]
    return " UNION ALL ".join(parts)


# --- up and down -----------------------------------------------------------------------------


def full_name(view: str) -> str:
    """A view's name with its schema: without it, DROP would find a view further down the search path."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return view
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    return f'"{schema}".{view}'


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    dialect = "mysql" if dialect == "mariadb" else dialect
    for name, select in zip(VIEWS, (labels(dialect), overrides(dialect)), strict=True):
        op.execute(f"DROP VIEW IF EXISTS {full_name(name)}")
        op.execute(f"CREATE VIEW {full_name(name)} AS {select}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW IF EXISTS {full_name(name)}")
